//! What a program is told.

use crate::connector::{ConnectError, Connected};
use crate::direct::request::RequestError;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest message in an answer, in bytes: reasons of three managers fit. A whole answer stays far under what
/// the kernel takes in one piece with [`SEND_BUFFER`], which is nearly as much as that says.
const MAX_MESSAGE: usize = 768;

/// The send buffer of each connection. Answers that a program does not read hold a descriptor each, in nobody's
/// table but counted against this user; so small a buffer takes some ten of them.
pub(crate) const SEND_BUFFER: usize = 4096;

/// How long an answer may wait for room in that buffer. There is room as soon as the program reads.
const UNREAD: Duration = Duration::from_secs(5);

/// With a descriptor.
#[derive(Serialize)]
struct Handed<'a> {
    host: &'a str,
    endpoint: String,
}

/// Without one.
#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
    message: &'a str,
    retry: &'a str,
}

/// Hands a connection over. This process has it no more afterwards, whatever comes of it.
pub(crate) async fn hand_over(stream: &UnixStream, connected: Connected) -> io::Result<()> {
    let Connected { host, endpoint, stream: connection } = connected;
    let connection = connection.into_std()?;
    // As a socket that the program had made itself.
    connection.set_nonblocking(false)?;
    let line = line(&Handed { host: host.as_str(), endpoint: endpoint.to_string() })?;
    send(stream, &line, Some(connection.as_fd())).await
}

/// Says why there is no connection.
pub(crate) async fn refuse(stream: &UnixStream, error: &ConnectError) -> io::Result<()> {
    let retry = if error.is_retriable() { "safe" } else { "pointless" };
    say(stream, error.name(), &error.to_string(), retry).await
}

/// Says what is wrong with a request.
pub(crate) async fn reject(stream: &UnixStream, error: &RequestError) -> io::Result<()> {
    say(stream, error.name(), &error.to_string(), "pointless").await
}

async fn say(stream: &UnixStream, error: &str, message: &str, retry: &str) -> io::Result<()> {
    let end = (0..=MAX_MESSAGE.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    let message = message.get(..end.unwrap_or_default()).unwrap_or_default();
    send(stream, &line(&Refused { error, message, retry })?, None).await
}

fn line(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}

async fn send(stream: &UnixStream, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let sending = stream.async_io(Interest::WRITABLE, || send_once(stream, line, descriptor));
    timeout(UNREAD, sending).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// One `sendmsg`. The kernel takes a line of this length whole or not at all.
fn send_once(stream: &UnixStream, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = sendmsg(stream, &[IoSlice::new(line)], &mut control, flags)?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
