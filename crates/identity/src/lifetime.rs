//! How long certificates live, and when they are renewed.

use echelon_core::time::UnixMillis;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Life of a root: it is replaced by rotation, planned years ahead.
pub const ROOT: Duration = DAY.saturating_mul(3650);

/// Life of an issuer: long enough that nobody needs the root key in a hurry.
pub const ISSUER: Duration = DAY.saturating_mul(365);

/// Life of a host's certificate: short, so that one that leaked is soon worth nothing.
pub const HOST: Duration = DAY;

/// Life of a manager's certificate; as short as a host's, for the same reason.
pub const MANAGER: Duration = DAY;

/// Life of a console's certificate: people are away for weeks, and nothing renews it meanwhile.
pub const CONSOLE: Duration = DAY.saturating_mul(90);

/// How far in the past every certificate starts: clocks of freshly booted machines differ by up to this.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// When a certificate with these limits is renewed: at half its life, so that half of it is left for trying.
pub fn renew_at(not_before: UnixMillis, not_after: UnixMillis) -> UnixMillis {
    UnixMillis(not_before.0 + not_after.0.saturating_sub(not_before.0) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_half_life() {
        assert_eq!(renew_at(UnixMillis(1000), UnixMillis(3000)), UnixMillis(2000));
        assert_eq!(renew_at(UnixMillis(3000), UnixMillis(1000)), UnixMillis(3000));
        assert_eq!(renew_at(UnixMillis(u64::MAX), UnixMillis(u64::MAX)), UnixMillis(u64::MAX));
    }
}
