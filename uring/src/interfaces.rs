//! The addresses of this machine.

use std::io;
use std::net::IpAddr;

use crate::addr;
use crate::sys::Interfaces;

/// All addresses of all interfaces of this network namespace, loopback included, each once.
///
/// # Errors
/// Those of `getifaddrs(3)`: no descriptor or memory to ask the kernel with.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    Interfaces::list()?.for_each_name(|name| {
        // Other families (packet sockets) are none of ours.
        addresses.extend(addr::decode(name).map(|address| address.ip()));
    });
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn addresses_are_ours_and_named_once() {
        let addresses = own_addresses().unwrap();
        assert!(addresses.contains(&"127.0.0.1".parse().unwrap()), "{addresses:?}");
        let different: HashSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), addresses.len());
        for address in addresses.iter().filter(|address| address.is_ipv4()) {
            UdpSocket::bind((*address, 0)).unwrap();
        }
    }
}
