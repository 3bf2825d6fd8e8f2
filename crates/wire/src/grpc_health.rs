//! The two messages of the gRPC health protocol (`grpc.health.v1`), which is nobody's but Google's to change.

use prost::Message;

/// The path of its one call that is made here.
pub const CHECK_PATH: &str = "/grpc.health.v1.Health/Check";

/// What a server says of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serving {
    /// It says that it does not know.
    Unknown,
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// There is no such service.
    ServiceUnknown,
    /// A word of a later version of the protocol.
    Other(i32),
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The question about a service; an empty name asks about the server as a whole.
pub fn question(service: &str) -> Vec<u8> {
    HealthCheckRequest { service: service.to_owned() }.encode_to_vec()
}

/// The answer that these bytes are; none where they are no answer.
pub fn answer(bytes: &[u8]) -> Option<Serving> {
    Some(match HealthCheckResponse::decode(bytes).ok()?.status {
        0 => Serving::Unknown,
        1 => Serving::Serving,
        2 => Serving::NotServing,
        3 => Serving::ServiceUnknown,
        other => Serving::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        assert!(question("").is_empty());
        assert_eq!(question("a.B"), [0x0a, 3, b'a', b'.', b'B']);
        for (bytes, serving) in [
            (&[][..], Some(Serving::Unknown)),
            (&[0x08, 1], Some(Serving::Serving)),
            (&[0x08, 2], Some(Serving::NotServing)),
            (&[0x08, 3, 0x10, 9], Some(Serving::ServiceUnknown)),
            (&[0x08, 77], Some(Serving::Other(77))),
            (&[0x08], None),
            (&[0x0a, 0xff, 0xff], None),
        ] {
            assert_eq!(answer(bytes), serving, "{bytes:?}");
        }
    }
}
