use proptest::{collection::vec, prelude::*};

use super::*;

const SESSION: SessionId = SessionId([7; 16]);

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn roster(reporter: &mut Reporter, ms: u64) -> Roster {
    match reporter.poll(at(ms)) {
        Some(Request::Roster(roster)) => roster,
        other => panic!("{other:?} at {ms}"),
    }
}

fn names(roster: &Roster) -> Vec<&str> {
    let mut names: Vec<&str> = roster.names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn enter(reporter: &mut Reporter, names: std::ops::Range<usize>) {
    names.for_each(|name| reporter.enter(format!("m{name}").into()));
}

#[test]
fn comings_and_goings_are_told_together_at_a_pace() {
    let mut reporter = Reporter::new(SESSION);
    assert_eq!(
        (reporter.poll(at(0)), reporter.poll_timeout()),
        (None, None)
    );
    reporter.enter("anna".into());
    let first = roster(&mut reporter, 1_000);
    assert_eq!((first.version, names(&first)), (1, vec!["anna"]));
    reporter.enter("ben".into());
    reporter.enter("carl".into());
    assert_eq!(reporter.poll(at(1_499)), None);
    assert_eq!(reporter.poll_timeout(), Some(at(1_500)));
    let second = roster(&mut reporter, 1_500);
    assert_eq!((second.version, second.count, second.joins), (2, 3, 3));
    assert_eq!(names(&second), ["anna", "ben", "carl"]);
}

#[test]
fn whoever_comes_back_soon_never_left() {
    let mut reporter = Reporter::new(SESSION);
    reporter.enter("anna".into());
    reporter.enter("ben".into());
    // Two devices: one of them is enough.
    reporter.enter("ben".into());
    roster(&mut reporter, 0);
    reporter.answered(1);
    reporter.leave(at(1_000), &"anna".into());
    reporter.leave(at(1_000), &"ben".into());
    reporter.leave(at(1_000), &"stranger".into());
    assert_eq!(reporter.poll(at(1_001)), None);
    reporter.enter("anna".into());
    assert!(matches!(
        reporter.poll(at(9_000)),
        Some(Request::Beat { .. })
    ));
    reporter.leave(at(9_000), &"anna".into());
    reporter.poll(at(11_500));
    assert_eq!(reporter.poll_timeout(), Some(at(12_000)));
    let left = roster(&mut reporter, 12_000);
    assert_eq!((names(&left), left.joins, left.leaves), (vec!["ben"], 2, 1));
}

#[test]
fn it_is_told_again_until_it_is_held_and_then_it_beats() {
    let mut reporter = Reporter::new(SESSION);
    reporter.enter("anna".into());
    let first = roster(&mut reporter, 0);
    assert_eq!(reporter.poll(at(1_999)), None);
    assert_eq!(roster(&mut reporter, 2_000), first, "the same");
    reporter.answered(1);
    let beat = Some(Request::Beat { session: SESSION });
    assert_eq!(reporter.poll(at(3_999)), None);
    assert_eq!(reporter.poll(at(4_000)), beat);
    // Another leader: asked at once. The session lapsed meanwhile.
    reporter.connected();
    assert_eq!(reporter.poll(at(4_001)), beat);
    reporter.answered(0);
    assert_eq!(roster(&mut reporter, 4_002), first);
    // It cannot keep it: told again, but not at once.
    reporter.answered(0);
    assert_eq!(reporter.poll(at(6_001)), None);
    assert_eq!(roster(&mut reporter, 6_002), first);
    reporter.answered(1);
    // The last one goes: that is told until it is known, and then nothing any more.
    reporter.leave(at(7_000), &"anna".into());
    let nobody = roster(&mut reporter, 10_000);
    assert_eq!((nobody.version, nobody.count), (2, 0));
    assert_eq!(roster(&mut reporter, 12_000), nobody);
    reporter.answered(2);
    assert_eq!(
        (reporter.poll(at(99_000)), reporter.poll_timeout()),
        (None, None)
    );
    reporter.enter("anna".into());
    assert_eq!(roster(&mut reporter, 99_000).version, 3);
}

#[test]
fn many_are_counted_with_a_sample_that_stays() {
    let mut reporter = Reporter::new(SESSION);
    enter(&mut reporter, 0..MAX_NAMES);
    assert!(roster(&mut reporter, 0).whole);
    enter(&mut reporter, MAX_NAMES..MAX_NAMES + 1);
    let many = roster(&mut reporter, 500);
    assert_eq!(
        (many.whole, many.count, many.names.len()),
        (false, 501, SAMPLE)
    );
    enter(&mut reporter, 600..620);
    let more = roster(&mut reporter, 1_000);
    let same = more.names.iter().filter(|n| many.names.contains(n)).count();
    assert!(same >= SAMPLE / 2, "{same} of the sample stayed");
}

#[test]
fn in_a_counted_room_nobody_is_named_until_it_is_small_again() {
    let mut reporter = Reporter::new(SESSION);
    enter(&mut reporter, 0..30);
    assert!(roster(&mut reporter, 0).whole);
    reporter.answered(1);
    reporter.counted(Some(501));
    assert!(!roster(&mut reporter, 1_000).whole);
    reporter.answered(2);
    reporter.counted(Some(NAMED_AGAIN + 1));
    assert!(matches!(
        reporter.poll(at(9_000)),
        Some(Request::Beat { .. })
    ));
    reporter.counted(Some(NAMED_AGAIN));
    let named = roster(&mut reporter, 9_000);
    assert_eq!((named.whole, named.names.len()), (true, 30));
    reporter.answered(3);
    reporter.counted(None);
    assert!(matches!(
        reporter.poll(at(20_000)),
        Some(Request::Beat { .. })
    ));
}

#[test]
fn long_names_are_not_all_told() {
    let mut reporter = Reporter::new(SESSION);
    for n in 0..=128 {
        reporter.enter(format!("{n:0128}").into());
    }
    let told = roster(&mut reporter, 0);
    assert_eq!(
        (told.whole, told.count, told.names.len()),
        (false, 129, SAMPLE)
    );
}

proptest! {
    /// Whatever happens, polled when it asks to be, the log comes to hold the truth, and every
    /// roster fits its bounds.
    #[test]
    fn the_log_comes_to_hold_the_truth(steps in vec((0usize..8, 0u8..6, 1u64..4_000), 1..120)) {
        let mut reporter = Reporter::new(SESSION);
        let mut here: BTreeMap<String, usize> = BTreeMap::new();
        let mut log: Option<Roster> = None;
        let mut now = 0;
        let mut spoke = 0;
        let mut poll = |reporter: &mut Reporter, now: u64, lost: bool, log: &mut Option<Roster>| {
            while let Some(request) = reporter.poll(at(now)) {
                prop_assert!(now >= spoke);
                spoke = now;
                if let Request::Roster(roster) = request {
                    let mut out = bytes::BytesMut::new();
                    roster.encode(&mut out);
                    let mut read = longspan_proto::wire::Reader::new(out.freeze());
                    prop_assert_eq!(&Roster::decode(&mut read), &Ok(roster.clone()));
                    if !lost {
                        *log = Some(roster);
                    }
                }
                let held = log.as_ref().map_or(0, |log| log.version);
                if !lost {
                    reporter.answered(held);
                }
            }
            Ok(())
        };
        for (who, what, wait) in steps {
            let name = format!("m{who}");
            let connections = here.entry(name.clone()).or_default();
            match what {
                0..=1 => { *connections += 1; reporter.enter(name.into()); }
                2..=3 if *connections > 0 => { *connections -= 1; reporter.leave(at(now), &name.into()); }
                // The edge was silent for too long, as the leader sees it.
                4 => log = None,
                5 => reporter.connected(),
                _ => {}
            }
            poll(&mut reporter, now, what == 3, &mut log)?;
            now += wait;
            poll(&mut reporter, now, false, &mut log)?;
        }
        let end = now + 20_000;
        while let Some(due) = reporter.poll_timeout().filter(|due| *due <= at(end)) {
            now = now.max(due.as_micros().div_ceil(1_000));
            poll(&mut reporter, now, false, &mut log)?;
        }
        let want: Vec<&str> = here.iter().filter(|(_, c)| **c > 0).map(|(n, _)| n.as_str()).collect();
        let told = log.as_ref().map_or(vec![], names);
        prop_assert_eq!(told, want);
    }
}
