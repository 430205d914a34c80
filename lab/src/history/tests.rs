//! Histories written by hand: one that is sound, and what each law says of one that is not.

use std::time::Duration;

use super::*;

/// A history and the time of what happens next: each event is 1 ms after the one before.
#[derive(Default)]
struct Story(Vec<Event>);

/// Member 1's first message is `mark(1, 1)`.
fn mark(member: u8, n: u64) -> Mark {
    Mark {
        session: SessionId([member; 16]),
        n,
    }
}

fn state(keys: &[(&str, u64, Mark)]) -> State {
    let entry = |(key, revision, mark): &(&str, u64, Mark)| (Arc::from(*key), (*revision, *mark));
    keys.iter().map(entry).collect()
}

impl Story {
    fn now(&self) -> Time {
        Time::ZERO + Duration::from_millis(self.0.len() as u64)
    }

    fn then(mut self, member: u32, what: What) -> Story {
        let at = self.now();
        self.0.push(Event { at, member, what });
        self
    }

    fn says(self, member: u8, n: u64) -> Story {
        let (mark, write) = (mark(member, n), None);
        self.then(member.into(), What::Says { mark, write })
    }

    fn writes(self, member: u8, n: u64, key: &str, expected: Option<u64>) -> Story {
        let write = Some(Write {
            key: key.into(),
            expected,
            deletes: false,
        });
        let mark = mark(member, n);
        self.then(member.into(), What::Says { mark, write })
    }

    fn deletes(self, member: u8, n: u64, key: &str) -> Story {
        let write = Some(Write {
            key: key.into(),
            expected: None,
            deletes: true,
        });
        let mark = mark(member, n);
        self.then(member.into(), What::Says { mark, write })
    }

    fn acked(self, member: u8, n: u64, seq: u64) -> Story {
        let mark = mark(member, n);
        self.then(member.into(), What::Acked { mark, seq })
    }

    fn refused(self, member: u8, n: u64) -> Story {
        let mark = mark(member, n);
        self.then(member.into(), What::Refused { mark })
    }

    fn resumes(self, member: u32, seq: u64) -> Story {
        self.then(member, What::Resumes { seq })
    }

    fn gets(self, member: u32, seq: u64, mark: Mark) -> Story {
        self.then(member, What::Gets { seq, mark })
    }

    fn gap(self, member: u32, from: u64, to: u64) -> Story {
        self.then(member, What::Gap { from, to })
    }

    /// Asked for `ago` events ago.
    fn told(self, member: u32, ago: u64, seq: u64, state: State) -> Story {
        let asked = self.now() - Duration::from_millis(ago);
        self.then(member, What::Told { asked, seq, state })
    }

    fn reads(self, member: u32, ago: u64, seq: u64, state: State) -> Story {
        let asked = self.now() - Duration::from_millis(ago);
        self.then(member, What::Reads { asked, seq, state })
    }

    fn sound(self) -> Verdict {
        let verdict = judge(&self.0);
        assert!(verdict.is_sound(), "{:#?}", verdict.broken);
        verdict
    }

    /// One law is broken, once, as these events show (by their numbers).
    fn breaks(self, law: Law, events: &[usize]) {
        let verdict = judge(&self.0);
        let found: Vec<Law> = verdict.count.keys().copied().collect();
        assert_eq!(found, [law], "{:#?}", verdict.broken);
        assert_eq!(verdict.count[&law], 1, "{:#?}", verdict.broken);
        let shown: Vec<Event> = events.iter().map(|at| self.0[*at].clone()).collect();
        assert_eq!(verdict.broken[0].events, shown, "{}", verdict.broken[0]);
    }
}

/// Two messages of member 1 and one of member 2, which both get; events 0 to 5 are the messages
/// and their acks.
fn three() -> Story {
    Story::default()
        .says(1, 1)
        .acked(1, 1, 1)
        .says(2, 1)
        .acked(2, 1, 2)
        .says(1, 2)
        .acked(1, 2, 3)
}

/// The same, and member 2 has the first two.
fn three_and_two_given() -> Story {
    three()
        .resumes(2, 0)
        .gets(2, 1, mark(1, 1))
        .gets(2, 2, mark(2, 1))
}

#[test]
fn a_sound_history_breaks_no_law() {
    let verdict = three_and_two_given()
        .gets(2, 3, mark(1, 2))
        .then(2, What::Stays)
        .writes(1, 3, "page", Some(0))
        .acked(1, 3, 4)
        // Another writes the same key, and comes too late.
        .writes(2, 2, "page", Some(0))
        .refused(2, 2)
        .writes(2, 3, "page", Some(4))
        .acked(2, 3, 5)
        .reads(1, 0, 5, state(&[("page", 5, mark(2, 3))]))
        // A gap is told, and the state follows; the message of 6 is of the third.
        .deletes(1, 4, "page")
        .gap(2, 4, 5)
        .told(2, 0, 5, state(&[("page", 5, mark(2, 3))]))
        .gets(2, 6, mark(1, 4))
        .acked(1, 4, 6)
        .told(3, 0, 6, state(&[]))
        .then(2, What::Stays)
        // Its publisher never hears of it, and nobody gets it.
        .says(1, 5)
        .sound();
    let Verdict {
        said,
        acked,
        refused,
        unanswered,
        ..
    } = verdict;
    assert_eq!((said, acked, refused, unanswered), (8, 6, 1, 1));
    assert_eq!((verdict.given, verdict.gaps, verdict.states), (4, 1, 3));
}

#[test]
fn what_nobody_said_is_found() {
    Story::default()
        .resumes(2, 0)
        .gets(2, 1, mark(9, 1))
        .breaks(Law::Said, &[1]);
    Story::default()
        .acked(1, 1, 1)
        .says(1, 1)
        .breaks(Law::Said, &[0]);
}

#[test]
fn two_orders_are_found() {
    three_and_two_given()
        .says(3, 1)
        .says(3, 2)
        .gets(2, 3, mark(1, 2))
        .resumes(3, 3)
        .gets(3, 4, mark(3, 1))
        .gets(2, 4, mark(3, 2))
        .breaks(Law::OneOrder, &[13, 14]);
}

#[test]
fn a_message_with_two_places_is_found() {
    three_and_two_given()
        .gets(2, 3, mark(1, 2))
        .gets(2, 4, mark(2, 1))
        .breaks(Law::Once, &[3, 10]);
}

#[test]
fn an_ack_of_what_was_lost_is_found() {
    // Acked, and then another message stands there: an ack before the commit.
    three_and_two_given()
        .says(3, 1)
        .gets(2, 3, mark(3, 1))
        .breaks(Law::AcksAreTrue, &[5, 10]);
}

#[test]
fn a_refusal_of_what_was_taken_is_found() {
    three().refused(2, 1).breaks(Law::RefusalsAreTrue, &[3, 6]);
    three_and_two_given()
        .says(3, 1)
        .refused(3, 1)
        .gets(2, 3, mark(1, 2))
        .gets(2, 4, mark(3, 1))
        .breaks(Law::RefusalsAreTrue, &[10, 12]);
}

#[test]
fn an_order_against_real_time_is_found() {
    Story::default()
        .says(1, 1)
        .acked(1, 1, 2)
        .says(2, 1)
        .acked(2, 1, 1)
        .breaks(Law::RealTime, &[1, 2]);
    // Under way at the same time: either may be first.
    Story::default()
        .says(1, 1)
        .says(2, 1)
        .acked(1, 1, 2)
        .acked(2, 1, 1)
        .sound();
}

#[test]
fn a_publisher_whose_messages_changed_places_is_found() {
    Story::default()
        .says(1, 1)
        .says(1, 2)
        .acked(1, 2, 1)
        .acked(1, 1, 2)
        .breaks(Law::PublishersOrder, &[2, 3]);
}

#[test]
fn what_is_skipped_is_found() {
    three()
        .resumes(2, 0)
        .gets(2, 1, mark(1, 1))
        .gets(2, 3, mark(1, 2))
        .breaks(Law::NothingSkipped, &[7, 8]);
    // A resume at the place after the next: off by one.
    three()
        .resumes(2, 0)
        .gets(2, 1, mark(1, 1))
        .resumes(2, 2)
        .gets(2, 3, mark(1, 2))
        .breaks(Law::NothingSkipped, &[7, 8]);
    // A gap that does not begin where the member stands.
    three()
        .resumes(2, 0)
        .gap(2, 2, 3)
        .breaks(Law::NothingSkipped, &[6, 7]);
    // A state that stands for a gap that was not told.
    three()
        .resumes(2, 0)
        .told(2, 0, 3, state(&[]))
        .breaks(Law::NothingSkipped, &[6, 7]);
}

#[test]
fn what_is_given_twice_is_found() {
    three_and_two_given()
        .gets(2, 2, mark(2, 1))
        .breaks(Law::NothingRepeated, &[8, 9]);
    three_and_two_given()
        .told(2, 9, 1, state(&[]))
        .breaks(Law::NothingRepeated, &[8, 9]);
    // Unless its edge said that it knows less.
    let verdict = three_and_two_given()
        .then(2, What::Behind)
        .gap(2, 3, 1)
        .told(2, 0, 1, state(&[]))
        .gets(2, 2, mark(2, 1))
        .sound();
    assert_eq!(verdict.behind, 1);
}

#[test]
fn whoever_stays_without_what_was_acked_is_found() {
    three_and_two_given()
        .then(2, What::Stays)
        .breaks(Law::AllGiven, &[5, 9]);
    three_and_two_given().then(2, What::Leaves).sound();
}

#[test]
fn a_compare_and_set_on_another_revision_is_found() {
    Story::default()
        .writes(1, 1, "page", None)
        .acked(1, 1, 1)
        .writes(2, 1, "page", Some(0))
        .acked(2, 1, 2)
        .breaks(Law::CompareAndSet, &[2, 3]);
    // What stands where nobody looked may have been anything.
    Story::default()
        .writes(1, 1, "page", None)
        .acked(1, 1, 1)
        .writes(2, 1, "page", Some(2))
        .acked(2, 1, 3)
        .sound();
}

#[test]
fn a_state_that_is_not_the_logs_is_found() {
    let written = || {
        Story::default()
            .writes(1, 1, "page", None)
            .acked(1, 1, 1)
            .writes(1, 2, "page", None)
            .acked(1, 2, 2)
    };
    let at = |revision, n| state(&[("page", revision, mark(1, n))]);
    written()
        .told(2, 0, 1, at(1, 1))
        .told(3, 0, 2, at(2, 2))
        .sound();
    written()
        .told(2, 0, 2, at(1, 1))
        .breaks(Law::StateOfTheLog, &[2, 4]);
    written()
        .told(2, 0, 2, state(&[]))
        .breaks(Law::StateOfTheLog, &[2, 4]);
    // What was deleted comes back.
    written()
        .deletes(1, 3, "page")
        .acked(1, 3, 3)
        .reads(2, 0, 3, at(2, 2))
        .breaks(Law::StateOfTheLog, &[2, 6]);
    // After a place that nobody saw the first state that is told is believed, and held to.
    written()
        .writes(1, 3, "hand", None)
        .acked(1, 3, 4)
        .told(2, 0, 4, state(&[("hand", 4, mark(1, 3))]))
        .reads(3, 0, 4, state(&[]))
        .breaks(Law::StateOfTheLog, &[4, 7]);
}

#[test]
fn a_state_without_ones_own_writes_is_found() {
    let written = || Story::default().writes(1, 1, "page", None).acked(1, 1, 1);
    written()
        .told(1, 0, 0, state(&[]))
        .breaks(Law::ReadYourWrites, &[1, 2]);
    // It was asked for before the ack; or by another, who may get it a little later.
    written().told(1, 2, 0, state(&[])).sound();
    written().told(2, 0, 0, state(&[])).sound();
}

#[test]
fn a_stale_read_is_found() {
    let written = || Story::default().writes(1, 1, "page", None).acked(1, 1, 1);
    written()
        .reads(2, 0, 0, state(&[]))
        .breaks(Law::FreshReads, &[1, 2]);
    written().reads(2, 2, 0, state(&[])).sound();
}

#[test]
fn a_verdict_sums_its_laws_up_and_keeps_a_few() {
    let mut story = three_and_two_given();
    for _ in 0..MAX_KEPT + 10 {
        story = story.gets(2, 2, mark(2, 1));
    }
    let verdict = judge(&story.gets(2, 9, mark(1, 2)).0);
    assert_eq!(verdict.repeated(), MAX_KEPT as u64 + 11);
    assert_eq!((verdict.lost(), verdict.reordered()), (1, 0));
    assert_eq!(verdict.broken.len(), MAX_KEPT);
    let told = verdict.broken[0].to_string();
    assert!(
        told.starts_with("NothingRepeated: 2 is given after 2\n"),
        "{told}"
    );
    assert!(told.contains("member 2: Gets"), "{told}");
}
