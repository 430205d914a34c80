//! What one member says, hears and remembers, written down for the judge. Pure: texts in, texts
//! out; `member` carries them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use longspan_lab::history::{Event, Mark, State, What, Write};
use longspan_proto::{ids::SessionId, time::Time};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

/// Messages that a member has under way at most; it says nothing new until one is answered.
const UNDER_WAY: usize = 6;
/// Keys that all members write.
const KEYS: u32 = 5;

/// See the [module](self).
pub struct Talk {
    id: u32,
    session: SessionId,
    /// Its newest message.
    n: u64,
    /// Said and not answered, in the order of their numbers.
    waiting: VecDeque<(u64, String)>,
    /// The newest message it has, or that a gap or a state stands for; None: it knows nothing.
    seq: Option<u64>,
    log: Option<String>,
    revisions: BTreeMap<Arc<str>, u64>,
    /// A state of which more follows.
    coming: Option<(u64, State)>,
    /// When this connection began.
    asked: Time,
    joined: bool,
    heard: Vec<Event>,
    now: Time,
    /// Sessions that the room did not know any more.
    pub expired: u64,
    /// Times that another log was told than before.
    pub relogged: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// All that is not answered is to be said at once.
    Now,
    /// All that is not answered is to be said again after a while.
    Soon,
    /// The edge is to be left.
    Leave,
}

impl Talk {
    pub fn new(id: u32, rng: &mut impl Rng) -> Talk {
        Talk {
            id,
            session: SessionId(rng.random()),
            n: 0,
            waiting: VecDeque::new(),
            seq: None,
            log: None,
            revisions: BTreeMap::new(),
            coming: None,
            asked: Time::ZERO,
            joined: false,
            heard: Vec::new(),
            now: Time::ZERO,
            expired: 0,
            relogged: 0,
        }
    }

    /// What was said and heard since it was taken last.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.heard)
    }

    pub fn joined(&self) -> bool {
        self.joined
    }

    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The newest message it has.
    pub fn seq(&self) -> u64 {
        self.seq.unwrap_or(0)
    }

    /// It was there to the end.
    pub fn stays(&mut self, now: Time) {
        self.now = now;
        self.note(What::Stays);
    }

    /// As if another came: nothing is known any more.
    pub fn forget(&mut self, now: Time, rng: &mut impl Rng) {
        self.now = now;
        self.note(What::Leaves);
        self.renew(rng);
        (self.seq, self.log) = (None, None);
        self.revisions.clear();
    }

    fn renew(&mut self, rng: &mut impl Rng) {
        self.session = SessionId(rng.random());
        self.n = 0;
        self.waiting.clear();
    }

    /// A connection is open: the first words.
    pub fn hello(&mut self, now: Time) -> String {
        self.now = now;
        (self.asked, self.joined, self.coming) = (now, false, None);
        let session = u128::from_be_bytes(self.session.0);
        let mut hello = json!({ "t": "hello", "session": format!("{session:032x}") });
        if let Some(seq) = self.seq {
            hello["resume"] = json!({ "seq": seq, "log": self.log });
        }
        hello.to_string()
    }

    /// What is not answered, in order.
    pub fn again(&self) -> impl Iterator<Item = &String> {
        self.waiting.iter().map(|(_, text)| text)
    }

    /// Something new to say, unless too much is under way.
    pub fn say(&mut self, now: Time, rng: &mut impl Rng) -> Option<String> {
        self.now = now;
        if !self.joined || self.waiting.len() >= UNDER_WAY {
            return None;
        }
        self.n += 1;
        let mark = self.mark(self.n);
        let topic = format!("{mark:?}");
        let mut text = json!({
            "t": "pub", "n": self.n, "class": "log", "topic": topic, "body": "a line of chat",
        });
        let mut write = None;
        if rng.random_ratio(1, 3) {
            let key: Arc<str> = format!("key-{}", rng.random_range(0..KEYS)).into();
            let held = self.revisions.get(&key).copied().unwrap_or(0);
            let expected = rng.random_ratio(1, 2).then_some(held);
            let deletes = rng.random_ratio(1, 8);
            text["class"] = "state".into();
            text["key"] = (*key).into();
            text["body"] = if deletes { Value::Null } else { self.id.into() };
            if let Some(expected) = expected {
                text["if"] = expected.into();
            }
            write = Some(Write {
                key,
                expected,
                deletes,
            });
        }
        let text = text.to_string();
        self.waiting.push_back((self.n, text.clone()));
        self.note(What::Says { mark, write });
        Some(text)
    }

    /// The edge said this.
    pub fn hear(&mut self, now: Time, said: &Value, rng: &mut impl Rng) -> Next {
        self.now = now;
        match said["t"].as_str().unwrap_or_default() {
            "welcome" => self.welcome(said),
            "state" => self.state(said),
            "ev" => self.event(said),
            "evs" => {
                for event in said["evs"].as_array().into_iter().flatten() {
                    self.event(event);
                }
            }
            "gap" => {
                let (from, to) = (number(said, "from"), number(said, "to"));
                self.note(What::Gap { from, to });
                self.seq = Some(to);
                self.log(said);
            }
            "ack" => {
                let (n, seq) = (number(said, "n"), number(said, "seq"));
                self.waiting.retain(|(waits, _)| *waits != n);
                let mark = self.mark(n);
                self.note(What::Acked { mark, seq });
            }
            "err" => return self.refused(said, rng),
            "goaway" => return Next::Leave,
            _ => return Next::Nothing,
        }
        match said["t"] == "welcome" {
            true => Next::Now,
            false => Next::Nothing,
        }
    }

    fn welcome(&mut self, said: &Value) {
        self.joined = true;
        self.log(said);
        let seq = number(said, "seq");
        match said["state"].is_object() {
            true => self.state(said),
            false => {
                self.note(What::Resumes { seq });
                self.seq = Some(seq);
            }
        }
    }

    fn state(&mut self, said: &Value) {
        let seq = number(said, "seq");
        let (_, mut state) = self.coming.take().unwrap_or_default();
        for (key, entry) in said["state"].as_object().into_iter().flatten() {
            let mark = entry["topic"].as_str().and_then(read);
            state.insert(
                key.as_str().into(),
                (number(entry, "revision"), mark.unwrap_or(NOBODY)),
            );
        }
        if said["more"] == true {
            self.coming = Some((seq, state));
            return;
        }
        let revision = |(key, (revision, _)): (&Arc<str>, &(u64, Mark))| (key.clone(), *revision);
        self.revisions = state.iter().map(revision).collect();
        self.seq = Some(seq);
        let asked = self.asked;
        self.note(What::Told { asked, seq, state });
    }

    fn event(&mut self, said: &Value) {
        let seq = number(said, "seq");
        let mark = said["topic"].as_str().and_then(read).unwrap_or(NOBODY);
        if let Some(key) = said["key"].as_str() {
            match said["body"].is_null() {
                true => self.revisions.remove(key),
                false => self.revisions.insert(key.into(), seq),
            };
        }
        self.seq = Some(seq);
        self.note(What::Gets { seq, mark });
    }

    fn refused(&mut self, said: &Value, rng: &mut impl Rng) -> Next {
        let error = said["error"].as_str().unwrap_or_default();
        match (error, said["n"].as_u64()) {
            ("resume_ahead", _) => {
                self.note(What::Behind);
                Next::Nothing
            }
            ("session_expired", _) => {
                self.expired += 1;
                self.renew(rng);
                Next::Leave
            }
            // Refused before, and a later one was taken: the refusal was lost on its way.
            ("conflict" | "n_went_back", Some(n)) => {
                self.waiting.retain(|(waits, _)| *waits != n);
                let mark = self.mark(n);
                self.note(What::Refused { mark });
                Next::Nothing
            }
            (
                "unavailable" | "busy" | "too_many_unanswered" | "rate_limited" | "n_jumped",
                Some(_),
            ) => Next::Soon,
            // Of the room, which is not there yet.
            ("unavailable", None) => Next::Nothing,
            _ => Next::Leave,
        }
    }

    fn log(&mut self, said: &Value) {
        let log = said["log"].as_str().map(str::to_owned);
        let other = self.log.is_some() && self.log != log;
        self.relogged += u64::from(other);
        self.log = log;
    }

    fn mark(&self, n: u64) -> Mark {
        Mark {
            session: self.session,
            n,
        }
    }

    fn note(&mut self, what: What) {
        let (at, member) = (self.now, self.id);
        self.heard.push(Event { at, member, what });
    }
}

/// Whose message it is that names no publisher: nobody has said it.
const NOBODY: Mark = Mark {
    session: SessionId([0; 16]),
    n: 0,
};

fn number(said: &Value, key: &str) -> u64 {
    said[key].as_u64().unwrap_or(0)
}

/// A topic is a mark: `SESSION/N`.
fn read(topic: &str) -> Option<Mark> {
    let (session, n) = topic.split_once('/')?;
    let session = u128::from_str_radix(session, 16).ok()?;
    Some(Mark {
        session: SessionId(session.to_be_bytes()),
        n: n.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use longspan_lab::history::judge;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn what_is_said_and_heard_is_a_history() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut talk = Talk::new(1, &mut rng);
        assert!(!talk.hello(at(0)).contains("resume"));
        assert_eq!(talk.say(at(1), &mut rng), None, "it is not in yet");
        let welcome =
            json!({ "t": "welcome", "seq": 0, "n": 0, "log": "a", "state": {}, "more": false });
        assert_eq!(talk.hear(at(2), &welcome, &mut rng), Next::Now);
        let mut said = Vec::new();
        while let Some(text) = talk.say(at(3), &mut rng) {
            said.push(serde_json::from_str::<Value>(&text).unwrap());
        }
        assert_eq!(said.len(), UNDER_WAY);
        // What is said comes back in order, the second half in a batch, and is acked.
        let event = |said: &Value| {
            let mut event = said.clone();
            event["t"] = "ev".into();
            event["seq"] = said["n"].clone();
            event
        };
        for message in &said[..3] {
            talk.hear(at(4), &event(message), &mut rng);
        }
        let rest: Vec<Value> = said[3..].iter().map(event).collect();
        talk.hear(at(5), &json!({ "t": "evs", "evs": rest }), &mut rng);
        for message in &said[1..] {
            let ack = json!({ "t": "ack", "n": message["n"], "seq": message["n"] });
            talk.hear(at(6), &ack, &mut rng);
        }
        // The first was lost on its way back: it is said again.
        let again: Vec<&String> = talk.again().collect();
        assert_eq!(again.len(), 1);
        assert!(
            talk.hello(at(7))
                .contains(r#""resume":{"log":"a","seq":6}"#)
        );
        talk.stays(at(8));
        let verdict = judge(&talk.take());
        assert!(verdict.is_sound(), "{:?}", verdict.broken);
        assert_eq!((verdict.said, verdict.acked, verdict.given), (6, 5, 6));
    }

    #[test]
    fn refusals_say_what_is_to_be_done() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut talk = Talk::new(1, &mut rng);
        talk.hello(at(0));
        let welcome = json!({ "t": "welcome", "seq": 4, "n": 0, "log": "a", "more": false });
        talk.hear(at(0), &welcome, &mut rng);
        talk.say(at(0), &mut rng);
        let mut hear = |error: &str, n: Value| {
            let said = json!({ "t": "err", "error": error, "n": n });
            (talk.hear(at(1), &said, &mut rng), talk.waits())
        };
        assert_eq!(hear("unavailable", Value::Null), (Next::Nothing, true));
        assert_eq!(hear("unavailable", json!(1)), (Next::Soon, true));
        assert_eq!(hear("going_away", Value::Null), (Next::Leave, true));
        assert_eq!(hear("conflict", json!(1)), (Next::Nothing, false));
        assert_eq!(hear("session_expired", Value::Null).0, Next::Leave);
        assert_eq!((talk.expired, talk.n), (1, 0));
        talk.forget(at(2), &mut rng);
        assert!(!talk.hello(at(3)).contains("resume"));
    }
}
