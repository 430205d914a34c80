//! Who writes to a member: its own task, or, while that has nothing to do, the room's hub, which
//! feeds all members in one go. Waking ten thousand tasks costs more than what they would write.

use std::{
    hint::black_box,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{view::Cursor, wire::Encoding};
use crate::line::{Line, Offered};

/// See the [module](self).
pub(super) struct Seat {
    /// None: not a plain TCP connection; its task does all.
    line: Option<Arc<Line>>,
    encoding: Encoding,
    feed: Mutex<Feed>,
    wake: Notify,
}

#[derive(Default)]
struct Feed {
    /// Where the member stands while the hub feeds it.
    cursor: Option<Cursor>,
    /// There was something that the hub did not write; the task is to look.
    missed: bool,
    /// Bytes that the hub wrote and the task has not counted.
    bytes: usize,
}

/// What is next for a member.
#[derive(Debug, Clone)]
pub(super) enum Fare {
    /// Nothing.
    Nothing,
    /// A whole frame, and where the member stands after it.
    Frame(Cursor, Bytes),
    /// Something that its own task is to tell it.
    Own,
}

impl Seat {
    pub fn new(line: Option<Arc<Line>>, encoding: Encoding) -> Seat {
        Seat {
            line,
            encoding,
            feed: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn feed_state(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the member's task: returns when there may be something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// For the task, which has written all it had: lets the hub feed the member, which stands at
    /// `cursor` if it joined. False: something came meanwhile, look again.
    pub fn give(&self, cursor: Option<Cursor>) -> bool {
        let mut feed = self.feed_state();
        if std::mem::take(&mut feed.missed) {
            return false;
        }
        if let (Some(line), Some(cursor)) = (&self.line, cursor) {
            line.lend();
            feed.cursor = Some(cursor);
        }
        true
    }

    /// For the task, before it does anything: where the member stands now, and how many bytes it was
    /// fed; none if the hub did not feed it.
    pub fn take(&self) -> Option<(Cursor, usize)> {
        let mut feed = self.feed_state();
        let bytes = std::mem::take(&mut feed.bytes);
        feed.cursor.take().map(|cursor| (cursor, bytes))
    }

    /// For the task: writes what the socket did not take at once of what the hub wrote.
    pub async fn finish(&self) -> std::io::Result<()> {
        match &self.line {
            Some(line) => line.finish().await,
            None => Ok(()),
        }
    }

    /// For the hub, before it feeds many: looks at what it will need. Each seat lies elsewhere in memory, cold
    /// since the last message; looked at one right after another, many are fetched at the same time.
    pub fn fetch(&self) {
        black_box(self.line.as_ref().map(Arc::strong_count));
    }

    /// For the hub: there may be something new.
    pub fn feed(&self, mut next: impl FnMut(Cursor, Encoding) -> Fare) {
        let mut feed = self.feed_state();
        let done = match (&self.line, feed.cursor) {
            (Some(line), Some(cursor)) => feed.from(line, cursor, |at| next(at, self.encoding)),
            _ => false,
        };
        if !done {
            feed.missed = true;
            self.wake.notify_one();
        }
    }
}

impl Feed {
    /// Writes all there is; whether that was done.
    fn from(
        &mut self,
        line: &Line,
        mut cursor: Cursor,
        mut next: impl FnMut(Cursor) -> Fare,
    ) -> bool {
        loop {
            let (after, frame) = match next(cursor) {
                Fare::Nothing => return true,
                Fare::Own => return false,
                Fare::Frame(after, frame) => (after, frame),
            };
            let offered = line.offer(&frame);
            if offered == Offered::Refused {
                return false;
            }
            cursor = after;
            self.cursor = Some(after);
            self.bytes += frame.len();
            if offered == Offered::InPart {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longspan_proto::{
        ids::{Room, RoomName, SessionId, Tenant},
        wire::envelope::{Class, Envelope},
    };
    use longspan_relay::roomlog::Snapshot;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::{
        super::view::{self, Log, View},
        *,
    };
    use crate::line::Owned;

    async fn pair() -> (Owned, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(listener.accept(), theirs);
        (Owned::new(ours.unwrap().0), theirs.unwrap())
    }

    /// Places of a room: the cursors before the first message, after it, and so on.
    fn cursors(count: u64) -> Vec<Cursor> {
        let mut view = View::new(view::Limits::default());
        view.load(Log { group: 1, era: 1 }, Snapshot::default());
        let mut all = vec![view.now()];
        for seq in 1..count {
            view.apply(Envelope {
                room: RoomName {
                    tenant: Tenant::default_tenant(),
                    room: Room::new("math").unwrap(),
                },
                session: SessionId([1; 16]),
                n: seq,
                class: Class::Log,
                topic: "chat".into(),
                key: None,
                expected: None,
                revision: 0,
                from: "anna".into(),
                recipient: None,
                at: 0,
                seq,
                body: Bytes::new(),
            });
            all.push(view.now());
        }
        all
    }

    /// At each place the next frame says where it is.
    fn fares(at: &[Cursor], len: usize) -> impl FnMut(Cursor, Encoding) -> Fare {
        move |cursor, _| {
            let next = at.iter().position(|it| *it == cursor).unwrap() + 1;
            match at.get(next) {
                Some(after) => Fare::Frame(*after, vec![next as u8; len].into()),
                None => Fare::Nothing,
            }
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_fed_and_knows_where_it_stands() {
        let (mut owned, mut theirs) = pair().await;
        let seat = Seat::new(Some(owned.line().clone()), Encoding::Json);
        let at = cursors(4);
        assert!(seat.give(Some(at[0])));
        seat.feed(fares(&at[..3], 1));
        seat.feed(fares(&at, 1));
        assert_eq!(seat.take(), Some((at[3], 3)));
        assert_eq!(seat.take(), None);
        seat.finish().await.unwrap();
        owned.write_all(&[9]).await.unwrap();
        let mut heard = [0; 4];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [1, 2, 3, 9]);
    }

    #[tokio::test]
    async fn whoever_is_busy_is_woken_and_looks_again() {
        let (owned, _theirs) = pair().await;
        let lines = [Some(owned.line().clone()), None];
        let at = cursors(2);
        for line in lines {
            let seat = Seat::new(line, Encoding::Json);
            seat.feed(|_, _| panic!("its task writes"));
            seat.woken().await;
            assert!(!seat.give(Some(at[0])), "something came meanwhile");
            assert!(seat.give(Some(at[0])));
            assert!(seat.give(None));
        }
    }

    #[tokio::test]
    async fn what_is_for_its_own_task_wakes_it() {
        let (owned, _theirs) = pair().await;
        let seat = Seat::new(Some(owned.line().clone()), Encoding::Json);
        let at = cursors(1);
        assert!(seat.give(Some(at[0])));
        seat.feed(|_, _| Fare::Own);
        seat.woken().await;
        assert_eq!(seat.take(), Some((at[0], 0)));
    }

    /// Its owner said something of itself, a pong: the hub may not write until it is asked to again.
    #[tokio::test]
    async fn whoever_spoke_meanwhile_is_woken() {
        let (mut owned, mut theirs) = pair().await;
        let seat = Seat::new(Some(owned.line().clone()), Encoding::Json);
        let at = cursors(3);
        assert!(seat.give(Some(at[0])));
        owned.write_all(&[9]).await.unwrap();
        seat.feed(fares(&at[..2], 1));
        seat.woken().await;
        assert_eq!(seat.take(), Some((at[0], 0)));
        assert!(!seat.give(Some(at[0])));
        assert!(seat.give(Some(at[0])));
        seat.feed(fares(&at, 1));
        let mut heard = [0; 3];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [9, 1, 2]);
    }

    #[tokio::test]
    async fn a_reader_that_sleeps_stops_being_fed_and_loses_nothing() {
        const LEN: usize = 4 << 20;
        let (owned, mut theirs) = pair().await;
        let seat = Seat::new(Some(owned.line().clone()), Encoding::Json);
        let at = cursors(200);
        assert!(seat.give(Some(at[0])));
        seat.feed(fares(&at, LEN));
        seat.woken().await;
        let (cursor, bytes) = seat.take().unwrap();
        let frames = at.iter().position(|it| *it == cursor).unwrap();
        assert!(frames < 199, "800 MB fit nowhere");
        assert_eq!(bytes, frames * LEN);
        let reading = tokio::spawn(async move {
            let mut heard = vec![0; bytes];
            theirs.read_exact(&mut heard).await.unwrap();
            heard
        });
        seat.finish().await.unwrap();
        let heard = reading.await.unwrap();
        for (frame, heard) in heard.chunks(LEN).enumerate() {
            assert!(heard.iter().all(|byte| usize::from(*byte) == frame + 1));
        }
    }
}
