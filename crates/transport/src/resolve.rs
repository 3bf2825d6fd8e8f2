//! The addresses of a place that may have a name.

use crate::limits::RESOLVE;
use echelon_core::endpoint::{Address, Endpoint};
use std::net::SocketAddr;
use tokio::time::timeout;

/// All addresses of this place; a name is looked up anew each time.
///
/// # Errors
/// Says, for people, why there are none.
pub async fn resolve(place: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let name = match &place.address {
        Address::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, place.port.into())]),
        Address::Name(name) => name.as_str(),
    };
    let found = timeout(RESOLVE, tokio::net::lookup_host((name, place.port.into()))).await;
    match found {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(e)) => Err(format!("{name} cannot be looked up: {e}")),
        Err(_) => Err(format!("{name} could not be looked up in time")),
    }
}
