//! One request: sent to managers until one answers, or until it must not be sent again.

use crate::dialer::DialError;
use crate::http::answer::{AnswerBody, Passed};
use crate::http::forwarder::Shard;
use crate::http::head::{self, Asked};
use crate::http::place::Place;
use crate::http::refusal::Refusal;
use crate::http::tunnel::Tunnel;
use crate::http::upload::{Gate, Replay, Upload};
use crate::http::upstream::{Failed, Link};
use echelon_core::evidence::Seen;
use echelon_core::repeat::{Circumstances, End, Next, Tries};
use echelon_core::route::Target;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Request, Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// How long a manager is sought for one request, in all its tries. Whoever has waited for so long has given up, or
/// would rather have an error. What a manager takes that has the request does not count: an answer may take as long
/// as it does, and a request that a manager took with it to its end may be as old as it was.
pub(super) const SOUGHT: Duration = Duration::from_secs(30);

/// A request under way.
struct Exchange<'a> {
    shard: &'a Shard,
    asked: Asked,
    upload: Option<Arc<Upload>>,
    tries: Tries,
    /// How long a manager may still be sought.
    patience: Duration,
}

/// An answer, and the connection that it comes over.
struct Answer {
    response: Response<Incoming>,
    link: Link,
}

/// The answer to `request`: a manager's, or why there is none. `place` is the request's, until its answer has ended.
pub(super) async fn exchange(
    shard: &Shard,
    mut request: Request<Incoming>,
    place: Place,
) -> Result<Response<AnswerBody>, Refusal> {
    let caller = upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let asked = head::asked(parts, body.size_hint().exact())?;
    let upload = Upload::new(body, &shard.forwarder.holds);
    let tries = Tries::new(asked.effect);
    let mut exchange = Exchange { shard, asked, upload, tries, patience: shard.forwarder.patience };
    let answer = exchange.run().await?;
    if let Some(upload) = &exchange.upload {
        upload.let_go();
    }
    exchange.pass(answer, caller, place)
}

impl Exchange<'_> {
    async fn run(&mut self) -> Result<Answer, Refusal> {
        // The last 503: better than nothing where nobody else is there.
        let mut overloaded = None;
        loop {
            let tried = match self.link().await {
                Ok(mut link) => self.send(&mut link).await.map(|response| Answer { response, link }),
                Err(refusal) => return overloaded.ok_or(refusal),
            };
            match tried {
                Ok(mut answer) => match self.look(&answer) {
                    Next::Repeat => {
                        if self.upload.is_some() {
                            // The next try reads the body, so that this one cannot send the rest.
                            answer.link.give_up();
                        }
                        overloaded = Some(answer);
                    }
                    Next::Tell => return Ok(answer),
                },
                Err(Some(refusal)) => return overloaded.ok_or(refusal),
                Err(None) => {}
            }
        }
    }

    /// A connection to the first manager of the route that is not passed over, or to who answers instead of it.
    async fn link(&mut self) -> Result<Link, Refusal> {
        let shard = self.shard;
        if !self.tries.needs_fresh()
            && let Some(link) = shard.pooled(&self.tries)
        {
            return Ok(link.again());
        }
        let dialing = shard.forwarder.dialer.dial_past(shard.forwarder.here(), self.tries.passed_over());
        let began = Instant::now();
        let dialed = timeout(self.patience, dialing).await.map_err(|_| Refusal::Timeout)?;
        self.patience = self.patience.saturating_sub(began.elapsed());
        let (stream, target) = dialed.map_err(|error| match error {
            DialError::Unserved(why) => Refusal::Unserved(why),
            DialError::Unreachable(why) => Refusal::Unreachable(why),
        })?;
        let name = target.name.to_string();
        let begun = Link::begin(stream, target, &shard.forwarder).await;
        begun.map_err(|error| Refusal::Unreachable(format!("{name}: {error}")))
    }

    /// Sends the request. Without an answer: why, or nothing where it is to be sent again.
    async fn send(&mut self, link: &mut Link) -> Result<Response<Incoming>, Option<Refusal>> {
        let request = self.request();
        let failed = match link.send(request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if self.upload.as_ref().is_some_and(|upload| upload.is_broken()) {
            return Err(Some(Refusal::BrokenOff));
        }
        if failed.is_bad_answer() {
            return Err(Some(bad_answer(link.target(), failed.to_string())));
        }
        let end = if failed.unsent { End::Unsent } else { End::Broken };
        match self.ended(end, link.target(), link.is_reused()) {
            Next::Repeat => {
                debug!(manager.host = %link.target().name, %failed, "A request is repeated");
                Err(None)
            }
            Next::Tell => Err(Some(told(link.target(), &failed))),
        }
    }

    fn request(&self) -> Request<Replay> {
        let expects = self.asked.expects_continue;
        let gate = expects.then(Arc::<Gate>::default);
        let body = match &self.upload {
            Some(upload) => upload.read(gate.clone()),
            None => Replay::empty(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.asked.method.clone();
        *request.uri_mut() = self.asked.uri.clone();
        *request.headers_mut() = self.asked.headers.clone();
        if let Some(gate) = gate {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        request
    }

    /// Whether an answer is the caller's, or another manager is asked.
    fn look(&mut self, answer: &Answer) -> Next {
        let Some(pause) = head::overload(answer.response.status(), answer.response.headers()) else {
            return Next::Tell;
        };
        let (target, age) = (answer.link.target(), answer.link.age());
        self.shard.forwarder.dialer.report(target, Seen::Overloaded(pause), age);
        self.ended(End::Overloaded, answer.link.target(), answer.link.is_reused())
    }

    fn ended(&mut self, end: End, target: &Target, reused: bool) -> Next {
        let route = self.shard.forwarder.route();
        let now = Circumstances {
            host: target.host,
            reused,
            held: self.upload.as_ref().is_none_or(|upload| upload.is_held()),
            in_time: !self.patience.is_zero(),
            targets: route.as_ref().map_or(&[], |route| &route.targets),
            usable: route.as_ref().map_or(0, |route| route.usable()),
        };
        let next = self.tries.ended(end, &now);
        if next == Next::Repeat {
            self.shard.forwarder.metrics.repeat(end);
        }
        next
    }

    /// The answer as the caller gets it.
    fn pass(
        &self,
        Answer { mut response, link }: Answer,
        caller: OnUpgrade,
        place: Place,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let bad = |why: &str| bad_answer(link.target(), why.to_owned());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut parts, body) = response.into_parts();
            head::answered(&mut parts).map_err(bad)?;
            let passed = Passed::new(body, link, &self.shard.pool, place);
            return Ok(Response::from_parts(parts, Either::Left(passed)));
        }
        if !self.asked.upgrades {
            return Err(bad("it changes to a protocol that nobody asked for"));
        }
        let manager = upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        head::answered(&mut parts).map_err(bad)?;
        let (target, wire) = (link.target().clone(), Arc::clone(link.wire()));
        Tunnel { caller, manager, target, wire, place }.start(&self.shard.forwarder);
        Ok(Response::from_parts(parts, Either::Right(Full::default())))
    }
}

fn bad_answer(target: &Target, why: String) -> Refusal {
    Refusal::BadAnswer { manager: target.name.to_string(), why }
}

fn told(target: &Target, failed: &Failed) -> Refusal {
    let (manager, why) = (target.name.to_string(), failed.to_string());
    if failed.unsent { Refusal::Unsent { manager, why } } else { Refusal::Broken { manager, why } }
}
