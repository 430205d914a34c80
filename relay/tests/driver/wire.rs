//! A link that can be cut, in either direction: a UDP forwarder between two nodes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinHandle};

/// Datagrams of QUIC between our nodes are shorter.
const DATAGRAM: usize = 65_536;

#[derive(Default)]
struct State {
    /// Towards who was dialed, and back.
    cut: [AtomicBool; 2],
    dialer: Mutex<Option<SocketAddr>>,
}

/// See the [module](self). Everything ends with it.
pub struct Wire {
    state: Arc<State>,
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Wire {
    /// Forwards what comes to its own address to `dialed`, and the answers back.
    pub async fn to(dialed: SocketAddr) -> Wire {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (near, far) = (
            Arc::new(bind().await.unwrap()),
            Arc::new(bind().await.unwrap()),
        );
        let address = near.local_addr().unwrap();
        let state = Arc::<State>::default();
        let there = {
            let (near, far, state) = (near.clone(), far.clone(), state.clone());
            tokio::spawn(async move {
                let mut datagram = vec![0; DATAGRAM];
                while let Ok((len, from)) = near.recv_from(&mut datagram).await {
                    *state.dialer.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                    if !state.cut[0].load(Ordering::Relaxed) {
                        // A full buffer loses it, as a network would.
                        let _ = far.try_send_to(&datagram[..len], dialed);
                    }
                }
            })
        };
        let back = {
            let state = state.clone();
            tokio::spawn(async move {
                let mut datagram = vec![0; DATAGRAM];
                while let Ok((len, _)) = far.recv_from(&mut datagram).await {
                    let dialer = *state.dialer.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(dialer) = dialer
                        && !state.cut[1].load(Ordering::Relaxed)
                    {
                        let _ = near.try_send_to(&datagram[..len], dialer);
                    }
                }
            })
        };
        Wire {
            state,
            address,
            tasks: [there, back],
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nothing gets through towards who was dialed, and back.
    pub fn cut(&self, there: bool, back: bool) {
        self.state.cut[0].store(there, Ordering::Relaxed);
        self.state.cut[1].store(back, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
