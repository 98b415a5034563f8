//! Free loopback ports.
//!
//! The kernel would hand out ports of its ephemeral range, from which it also takes the local end of outgoing
//! connections. While a server on such a port is stopped, a client that keeps trying to connect may be given
//! that very port, connect to itself, and hold it. So ports come from below that range, each tried by binding it.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::error::{Error, Result};

const LOWEST: u16 = 15_000;
const HIGHEST: u16 = 32_000;

static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A TCP port of 127.0.0.1 that nobody listens on, never given out twice by this process.
///
/// # Errors
/// When a thousand tries found none.
pub fn free_port() -> Result<u16> {
    let (low, high) = range();
    let span = u64::from(high - low);
    for _ in 0..1000 {
        let offset = u16::try_from(RandomState::new().build_hasher().finish() % span).unwrap_or_default();
        let port = low + offset;
        if TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return Ok(port);
        }
    }
    Err(Error::Unsupported(format!("no free loopback port between {low} and {high}")))
}

/// The range to draw from: below the kernel's ephemeral ports, when those leave room.
fn range() -> (u16, u16) {
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(HIGHEST);
    let high = ephemeral.min(HIGHEST);
    if high > LOWEST + 1000 { (LOWEST, high) } else { (LOWEST, HIGHEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_distinct() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
