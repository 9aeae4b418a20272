//! Binds the configured ports: either all of them, or none with an error that says what to change.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::server;

#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// The addresses that cannot be bound, and how to correct them.
#[derive(Debug)]
pub struct BindError(Vec<Refused>);

#[derive(Debug)]
struct Refused {
    setting: &'static str,
    address: SocketAddr,
    error: io::Error,
    /// A free port near the configured one, if that is in use.
    free: Option<SocketAddr>,
}

/// Binds `server.bind`, `management.bind` and, where it is set, `commerce.bind`.
pub(super) fn bind(
    server: SocketAddr,
    management: SocketAddr,
    commerce: Option<SocketAddr>,
) -> Result<(Bound, Bound, Option<Bound>), BindError> {
    let bind = |setting, address| listen(address).map_err(|error| Refused { setting, address, error, free: None });
    let server = bind("server.bind", server);
    let management = bind("management.bind", management);
    let commerce = commerce.map(|address| bind("commerce.bind", address)).transpose();
    // Bound ports stay bound until the end, so that none of them is suggested.
    let (mut bound, mut refused) = (Vec::new(), Vec::new());
    match (server, management, commerce) {
        (Ok(server), Ok(management), Ok(commerce)) => return Ok((server, management, commerce)),
        (server, management, commerce) => {
            for result in [server.map(Some), management.map(Some), commerce] {
                result.map_or_else(|port| refused.push(port), |port| bound.extend(port));
            }
        }
    }
    for refused in refused.iter_mut().filter(|refused| refused.error.kind() == io::ErrorKind::AddrInUse) {
        refused.free = free_port(refused.address, &mut bound);
    }
    Err(BindError(refused))
}

fn listen(address: SocketAddr) -> io::Result<Bound> {
    let listener = server::listen(address)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

/// The first free port after one in use. It is added to `bound`, so that it is not suggested twice.
fn free_port(in_use: SocketAddr, bound: &mut Vec<Bound>) -> Option<SocketAddr> {
    for port in (in_use.port()..=u16::MAX).skip(1).take(100) {
        if let Ok(free) = listen(SocketAddr::new(in_use.ip(), port)) {
            let address = free.address;
            bound.push(free);
            return Some(address);
        }
    }
    None
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Refused { setting, address, error, .. }) in self.0.iter().enumerate() {
            let separator = if number > 0 { "\n       " } else { "" };
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "another process listens on this port".to_owned(),
                io::ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
                io::ErrorKind::PermissionDenied if address.port() < 1024 => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a port of 1024 or above"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            write!(f, "{separator}{setting} = {address}: {hint}")?;
        }
        let variables: Vec<String> = self.0.iter().filter_map(Refused::variable).collect();
        if !variables.is_empty() {
            write!(f, "\nTo use free ports, put this before the command:\n  {}", variables.join(" "))?;
        }
        Ok(())
    }
}

impl Refused {
    /// The environment variable that selects the free port.
    fn variable(&self) -> Option<String> {
        let name = self.setting.to_uppercase().replace('.', "__");
        self.free.map(|address| format!("CONNECTOR__{name}={address}"))
    }
}
