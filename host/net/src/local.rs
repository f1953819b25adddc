//! Ports of this machine for servers that dlm starts itself.

use std::net::{Ipv4Addr, TcpListener};

/// Names a port of 127.0.0.1 that nothing listens on at this moment.
///
/// **Errors**: the machine has no loopback port left.
pub fn free_loopback_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_loopback_port().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
