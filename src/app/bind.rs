//! The ports that a configuration names, bound: all of them, or an error that says what to change.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port that is bound. Its address is known before it is decided what it answers.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// The addresses that cannot be bound, and what to do about it.
#[derive(Debug, Default)]
pub struct BindError(Vec<Refused>);

#[derive(Debug)]
struct Refused {
    setting: &'static str,
    address: SocketAddr,
    error: io::Error,
    /// A port nearby that is free, where the one asked for is taken.
    free: Option<SocketAddr>,
}

/// Binds each address, given with the setting that names it, in this order.
pub(super) async fn bind(
    addresses: impl IntoIterator<Item = (&'static str, SocketAddr)>,
) -> Result<Vec<Bound>, BindError> {
    let (mut bound, mut refused) = (Vec::new(), BindError::default());
    for (setting, address) in addresses {
        match listen(address).await {
            Ok(port) => bound.push(port),
            Err(error) => refused.0.push(Refused { setting, address, error, free: None }),
        }
    }
    if refused.0.is_empty() {
        return Ok(bound);
    }
    // The ports that are bound stay so meanwhile: no suggestion is one of them.
    for refused in &mut refused.0 {
        if refused.error.kind() == io::ErrorKind::AddrInUse {
            refused.free = free_port(refused.address, &mut bound).await;
        }
    }
    Err(refused)
}

async fn listen(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

/// The first free port after the one that is taken, which is held so that it is not suggested twice.
async fn free_port(taken: SocketAddr, held: &mut Vec<Bound>) -> Option<SocketAddr> {
    for port in (taken.port()..=u16::MAX).skip(1).take(100) {
        if let Ok(bound) = listen(SocketAddr::new(taken.ip(), port)).await {
            let address = bound.address;
            held.push(bound);
            return Some(address);
        }
    }
    None
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Refused { setting, address, error, .. }) in self.0.iter().enumerate() {
            let separator = if number > 0 { "\n" } else { "" };
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "another process listens on this port".to_owned(),
                io::ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
                io::ErrorKind::PermissionDenied => {
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
    /// What to set in the environment to use the free port.
    fn variable(&self) -> Option<String> {
        let name = self.setting.to_uppercase().replace('.', "__");
        self.free.map(|address| format!("CONNECTOR__{name}={address}"))
    }
}
