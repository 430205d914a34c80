//! When bytes came to this machine, as its kernel noted it: what a member that waits for its turn on
//! a busy core was late is not the edge's doing, and is told apart.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, SystemTime},
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};

/// Room for what the kernel says beside the data: one time and its header (cmsg(3)), aligned as that.
#[repr(align(16))]
struct Beside([u8; 64]);

/// Asks the kernel to note when each segment comes (`SO_TIMESTAMPNS`, socket(7)).
pub fn note(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, ReceiveTimestampns, &true)?)
}

/// Reads what is there, without waiting: how many bytes, and how long the last of them has been
/// here. Of a socket whose segments are not noted, none.
pub fn read(socket: &impl AsRawFd, into: &mut [u8]) -> io::Result<(usize, Duration)> {
    let mut beside = Beside([0; 64]);
    let mut into = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let come = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut beside.0), flags)?;
    let noted = come.cmsgs()?.find_map(|beside| match beside {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    });
    let noted = noted.map(|at| SystemTime::UNIX_EPOCH + Duration::from(at));
    // The clock may have been set back meanwhile.
    let since = noted.and_then(|at| SystemTime::now().duration_since(at).ok());
    Ok((come.bytes, since.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Write},
        net::{TcpListener, TcpStream},
        thread::sleep,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn what_lay_unread_is_as_old_as_it_is() {
        let (near, mut far) = pair();
        note(&near).unwrap();
        let mut into = [0; 8];
        let nothing = read(&near, &mut into).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        let wait = Duration::from_millis(30);
        let mut heard = || {
            far.write_all(b"abc").unwrap();
            sleep(wait);
            let (bytes, since) = read(&near, &mut into).unwrap();
            assert_eq!(&into[..bytes], b"abc");
            since
        };
        // The kernel notes nothing until a moment after the first socket asked it to.
        let noted = (0..100).map(|_| heard()).find(|since| !since.is_zero());
        assert!(noted >= Some(wait), "{noted:?}");
        drop(far);
        assert_eq!(read(&near, &mut into).unwrap().0, 0);
    }

    #[test]
    fn what_is_not_noted_has_just_come() {
        let (near, mut far) = pair();
        far.write_all(b"abc").unwrap();
        near.set_nonblocking(false).unwrap();
        near.peek(&mut [0]).unwrap();
        let (bytes, since) = read(&near, &mut [0; 8]).unwrap();
        assert_eq!((bytes, since), (3, Duration::ZERO));
    }
}
