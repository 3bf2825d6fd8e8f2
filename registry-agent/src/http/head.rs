//! What of a message's head goes on, and what is between two neighbours only.
//!
//! RFC 9110, sections 7.2 (Host), 7.6 (what intermediaries do), and RFC 9112, section 3.2 (forms of a target).

use crate::http::refusal::Refusal;
use echelon_core::repeat::Effect;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, Entry, HOST, HeaderName, HeaderValue, MAX_FORWARDS, RETRY_AFTER, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::http::{request, response};
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};
use std::time::Duration;

/// By this key a manager knows a request again that it has seen before.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What is between two neighbours, besides what `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What no `Connection` can take away: without these a message would mean something else.
const ESSENTIAL: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// The protocol that HTTP itself would change into, by a way that RFC 9113 has given up.
const H2C: &str = "h2c";

/// What a manager that is overloaded is left alone for where it names a date, not seconds.
const RETRY_AFTER_DATE: Duration = Duration::from_secs(5);

/// A request as it goes on.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Path and query, or `*`.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// What sending it twice would do.
    pub(super) effect: Effect,
    /// Its body is held back until the manager wants it.
    pub(super) expects_continue: bool,
    /// It asks for another protocol on this connection.
    pub(super) upgrades: bool,
}

/// What goes on of a request whose body has this length, if that is known.
pub(super) fn asked(parts: request::Parts, length: Option<u64>) -> Result<Asked, Refusal> {
    let request::Parts { method, uri, version, mut headers, .. } = parts;
    if method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if !is_coding_known(&headers) {
        return Err(Refusal::Coding);
    }
    let uri = target(&uri, &mut headers, version)?;
    count_down(&method, &mut headers)?;
    let modern = version >= Version::HTTP_11;
    let upgrade = upgrade(&headers).filter(|_| modern);
    let trailers = listed(&headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    strip(&mut headers);
    via(&mut headers, version);
    if !modern || length == Some(0) {
        headers.remove(EXPECT);
    }
    if length.is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    let upgrades = upgrade.is_some();
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let expects_continue = listed(&headers, &EXPECT).any(|what| what.eq_ignore_ascii_case("100-continue"));
    let same = method.is_idempotent() || has_key(&headers);
    let effect = if same { Effect::Same } else { Effect::Again };
    Ok(Asked { method, uri, headers, effect, expects_continue, upgrades })
}

/// Takes from an answer what is not for the caller. Where it changes the protocol, that is.
///
/// # Errors
/// Why it cannot be passed on.
pub(super) fn answered(parts: &mut response::Parts) -> Result<(), &'static str> {
    if !is_coding_known(&parts.headers) {
        return Err("its transfer coding is another than chunked");
    }
    let protocol = parts.headers.get(UPGRADE).cloned();
    strip(&mut parts.headers);
    if let Some(protocol) = protocol.filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS) {
        parts.headers.insert(UPGRADE, protocol);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // What the manager spoke is between it and the agent.
    parts.version = Version::HTTP_11;
    Ok(())
}

/// How long a manager wants to be left alone; none where it is not overloaded.
pub(super) fn overload(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(RETRY_AFTER).filter(|_| status == StatusCode::SERVICE_UNAVAILABLE)?;
    let seconds = after.to_str().ok().and_then(|text| text.trim().parse().ok());
    Some(seconds.map_or(RETRY_AFTER_DATE, Duration::from_secs))
}

/// Path and query; the host is in `Host`, once.
fn target(uri: &Uri, headers: &mut HeaderMap, version: Version) -> Result<Uri, Refusal> {
    if let Some(authority) = uri.authority() {
        // RFC 9112, section 3.2.2: the target's host counts, whatever `Host` says.
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(HOST, host.map_err(|_| Refusal::bad("the target's host is no host"))?);
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Refusal::bad("there is more than one Host")),
        (Some(host), None) if !is_host(host) => return Err(Refusal::bad("Host is no host")),
        (None, _) if version >= Version::HTTP_11 => return Err(Refusal::bad("there is no Host")),
        (None, _) => drop(headers.insert(HOST, HeaderValue::from_static(""))),
        (Some(_), None) => {}
    }
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Uri::from(path))
}

/// Whether this is `HOST`, `HOST:PORT`, or nothing.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
}

/// Counts how many may still pass on a request that asks who is on the way (RFC 9110, section 7.6.2).
fn count_down(method: &Method, headers: &mut HeaderMap) -> Result<(), Refusal> {
    if !matches!(*method, Method::TRACE | Method::OPTIONS) {
        return Ok(());
    }
    let Entry::Occupied(mut left) = headers.entry(MAX_FORWARDS) else { return Ok(()) };
    let number: Option<u32> = left.get().to_str().ok().and_then(|text| text.trim().parse().ok());
    match number {
        None => Err(Refusal::bad("Max-Forwards is no number")),
        Some(0) => Err(Refusal::LastOnTheWay),
        Some(number) => {
            left.insert(HeaderValue::from(number - 1));
            Ok(())
        }
    }
}

/// The protocols that are asked for, if they may be passed on.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = listed(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let h2c = listed(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(H2C));
    headers.get(UPGRADE).filter(|_| asked && !h2c).cloned()
}

/// Whether what is done to the body on the way here can be undone: nothing, or that it comes in chunks. More than
/// that would be passed on as if it were the content.
fn is_coding_known(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether there is one key, by which managers can know the request again.
fn has_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let is_empty = |key: &HeaderValue| matches!(key.as_bytes().trim_ascii(), b"" | b"\"\"");
    keys.next().is_some_and(|key| !is_empty(key)) && keys.next().is_none()
}

/// Takes away what is between two neighbours. A length beside a coding means nothing (RFC 9112, section 6.3), and
/// would be believed by whoever does not see the coding any more.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let options = listed(headers, &CONNECTION).filter_map(|option| option.parse::<HeaderName>().ok());
    let named: Vec<_> = options.filter(|name| !ESSENTIAL.contains(name)).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn via(headers: &mut HeaderMap, version: Version) {
    let by = if version >= Version::HTTP_11 { "1.1 registry-agent" } else { "1.0 registry-agent" };
    headers.append(VIA, HeaderValue::from_static(by));
}

/// The elements of a header that is a list.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use hyper::header::RETRY_AFTER;

    fn headers(text: &str) -> HeaderMap {
        let lines = text.lines().map(|line| line.split_once(": ").unwrap());
        lines.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers: HeaderMap, (name, value): (HeaderName, HeaderValue)| {
                headers.append(name, value);
                headers
            },
        )
    }

    fn ask_with(method: &str, target: &str, text: &str, length: Option<u64>) -> Result<Asked, Refusal> {
        let mut request = Request::builder().method(method).uri(target).body(()).unwrap();
        *request.headers_mut() = headers(text);
        asked(request.into_parts().0, length)
    }

    fn ask(method: &str, target: &str, text: &str) -> Result<Asked, Refusal> {
        ask_with(method, target, text, Some(0))
    }

    #[test]
    fn what_is_between_neighbours_stays_there_and_the_rest_goes_on() {
        let sent = "Host: a.example\nConnection: keep-alive, x-own, host\nKeep-Alive: timeout=5\nX-Own: 1\n\
            Proxy-Connection: keep-alive\nTE: gzip\nTransfer-Encoding: chunked\nUpgrade: h2c\nHTTP2-Settings: AA\n\
            Accept: */*\nCookie: a=b\nVia: 1.0 fred\nX-Forwarded-For: 10.0.0.1";
        let went = ask("GET", "/a?b=c", sent).unwrap();
        let kept = "Host: a.example\nAccept: */*\nCookie: a=b\nVia: 1.0 fred\nVia: 1.1 registry-agent\n\
            X-Forwarded-For: 10.0.0.1";
        assert_eq!(went.headers, headers(kept));
        assert_eq!((went.uri.to_string().as_str(), went.upgrades), ("/a?b=c", false));
    }

    #[test]
    fn trailers_and_other_protocols_are_asked_for_anew() {
        let went = ask("GET", "/", "Host: a\nTE: trailers\nConnection: TE").unwrap();
        assert_eq!(
            (&went.headers[TE], &went.headers[CONNECTION]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
        let websocket = "Host: a\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13";
        let went = ask("GET", "/", websocket).unwrap();
        assert_eq!(went.headers[UPGRADE], "websocket");
        assert_eq!(went.headers[CONNECTION], "upgrade");
        assert!(went.upgrades && went.headers.contains_key("sec-websocket-version"));
        for not in ["Upgrade: websocket", "Connection: upgrade\nUpgrade: websocket, h2c"] {
            assert!(!ask("GET", "/", &format!("Host: a\n{not}")).unwrap().upgrades, "{not}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_counts() {
        let went = ask("GET", "http://a.example:80/b?c", "Host: other.example").unwrap();
        assert_eq!(
            (went.uri.to_string().as_str(), &went.headers[HOST]),
            ("/b?c", &"a.example:80".parse().unwrap())
        );
        assert_eq!(ask("OPTIONS", "*", "Host: a").unwrap().uri.to_string(), "*");
        for (target, text) in [
            ("/", ""),
            ("/", "Host: a\nHost: a"),
            ("/", "Host: a b"),
            ("/", "Host: user@a"),
            ("http://user@a/", "Host: a"),
        ] {
            assert!(matches!(ask("GET", target, text), Err(Refusal::Bad(_))), "{target} {text}");
        }
    }

    #[test]
    fn what_may_be_repeated_is_known_by_method_or_key() {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
            assert_eq!(ask(method, "/", "Host: a").unwrap().effect, Effect::Same, "{method}");
        }
        for method in ["POST", "PATCH", "LOCK", "get"] {
            assert_eq!(ask(method, "/", "Host: a").unwrap().effect, Effect::Again, "{method}");
            let keyed = ask(method, "/", "Host: a\nIdempotency-Key: \"7\"").unwrap();
            assert_eq!(keyed.effect, Effect::Same, "{method}");
        }
        for not in ["", "\"\"", "7\nIdempotency-Key: 8"] {
            let keyed = ask("POST", "/", &format!("Host: a\nIdempotency-Key: {not}")).unwrap();
            assert_eq!(keyed.effect, Effect::Again, "{not:?} is no key");
        }
        assert!(matches!(ask("CONNECT", "a:1", "Host: a:1"), Err(Refusal::Connect)));
    }

    #[test]
    fn what_is_done_to_a_body_besides_chunks_is_not_passed_on() {
        for coding in ["gzip, chunked", "gzip", "chunked, chunked", "chunked\nTransfer-Encoding: chunked", ""]
        {
            let text = format!("Host: a\nTransfer-Encoding: {coding}");
            assert!(matches!(ask_with("POST", "/", &text, None), Err(Refusal::Coding)), "{coding}");
        }
        assert!(ask_with("POST", "/", "Host: a\nTransfer-Encoding: Chunked", None).is_ok());
    }

    #[test]
    fn bodies_without_a_length_go_in_chunks() {
        let went = ask_with("GET", "/", "Host: a\nTransfer-Encoding: chunked", None).unwrap();
        assert_eq!(went.headers[TRANSFER_ENCODING], "chunked");
        let went =
            ask_with("POST", "/", "Host: a\nContent-Length: 3\nExpect: 100-continue", Some(3)).unwrap();
        assert!(went.expects_continue && !went.headers.contains_key(TRANSFER_ENCODING));
        assert_eq!(went.headers[CONTENT_LENGTH], "3");
    }

    #[test]
    fn who_is_on_the_way_is_counted() {
        let went = ask("TRACE", "/", "Host: a\nMax-Forwards: 3").unwrap();
        assert_eq!(went.headers[MAX_FORWARDS], "2");
        assert!(matches!(ask("OPTIONS", "/", "Host: a\nMax-Forwards: 0"), Err(Refusal::LastOnTheWay)));
        assert!(matches!(ask("OPTIONS", "/", "Host: a\nMax-Forwards: x"), Err(Refusal::Bad(_))));
        assert_eq!(ask("GET", "/", "Host: a\nMax-Forwards: 0").unwrap().headers[MAX_FORWARDS], "0");
    }

    #[test]
    fn overload_is_a_503_that_says_when_to_come_again() {
        let with =
            |after: &'static str| HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(after))]);
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(overload(busy, &with("7")), Some(Duration::from_secs(7)));
        assert_eq!(overload(busy, &with("Fri, 31 Dec 1999 23:59:59 GMT")), Some(RETRY_AFTER_DATE));
        assert_eq!(overload(busy, &HeaderMap::new()), None);
        assert_eq!(overload(StatusCode::TOO_MANY_REQUESTS, &with("7")), None);
    }
}
