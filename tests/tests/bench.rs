//! Every verb of `longspan bench` once, so small that it says nothing of speed: processes start,
//! frames arrive, figures have their names, nothing is left running.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::cli::binary;

fn bench(args: &str) -> Value {
    let output = Command::new(binary())
        .args(["bench", "-o", "json"])
        .args(args.split(' '))
        .output()
        .expect("longspan runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench {args}: {errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    for key in ["command", "machine", "seed"] {
        assert!(!report[key].is_null(), "no {key} in {report}");
    }
    report
}

/// The number under a JSON pointer.
fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number {pointer} in {report}"))
}

#[test]
fn floor() {
    for kind in ["floor", "floor --tcp"] {
        let report = bench(&format!("{kind} --subscribers 3 --seconds 1"));
        assert!(number(&report, "/us_per_datagram") > 0.0, "{report}");
    }
}

#[test]
fn fanout_delivers_every_frame_once() {
    let report = bench("fanout --subscribers 3 --fps 50 --size 500 --group 10 --seconds 1");
    assert_eq!(number(&report, "/latency_ms/n"), 150.0, "{report}");
    assert_eq!(number(&report, "/lost"), 0.0, "{report}");
    assert_eq!(number(&report, "/repeated"), 0.0, "{report}");
    for figure in ["cpu_us_per_frame", "cpu_s_per_gbit", "delivered_per_s"] {
        number(&report, &format!("/{figure}"));
    }
    assert!(number(&report, "/rss_bytes_per_receiver") > 0.0, "{report}");
}

#[test]
fn chain_crosses_all_relays() {
    let report = bench("chain --hops 3 --subscribers 2 --seconds 1");
    assert_eq!(number(&report, "/added_ms_per_hop/n"), 100.0, "{report}");
    assert_eq!(number(&report, "/lost"), 0.0, "{report}");
    number(&report, "/cpu_us_per_hop");
}

#[test]
fn join_is_cold_no_sooner_than_the_path_allows() {
    let report = bench("join --path hk,sg --trials 1 --profile clean");
    let rtt = number(&report, "/path_rtt_ms");
    // The profile's jitter is ±2 % each way.
    assert!(number(&report, "/cold_ms/max") > rtt * 0.95, "{report}");
    assert_eq!(number(&report, "/warm_ms/n"), 1.0, "{report}");
    assert!(number(&report, "/initial_window_bytes") > 0.0, "{report}");
}

#[test]
fn a_viewer_whose_edge_is_lost_goes_on_at_another() {
    for fault in ["kill", "blackhole"] {
        let report = bench(&format!(
            "edge-lost --fault {fault} --warm --trials 3 --regions cn-shanghai,hk,sg"
        ));
        assert_eq!(number(&report, "/gap_ms/n"), 3.0, "{report}");
        in_order(&report);
    }
}

#[test]
fn viewers_go_on_when_their_publisher_comes_back_at_another_edge() {
    for fault in ["kill", "blackhole"] {
        let report = bench(&format!(
            "edge-lost --fault {fault} --publisher --trials 3 --regions cn-beijing,cn-shanghai,hk"
        ));
        assert_eq!(number(&report, "/accepted_ms/n"), 3.0, "{report}");
        assert_eq!(number(&report, "/continued_ms/n"), 3.0, "{report}");
        in_order(&report);
    }
}

/// Three of each fault, on one backbone of real processes; the figures of a hundred are the bench's.
#[test]
fn a_lesson_outlives_each_fault_of_its_links_and_relays() {
    let faults = ["blackhole", "oneway", "kill", "stop"];
    let args = format!("failover --fault {} --trials 3 --seed 7", faults.join(","));
    let report = bench(&args);
    for fault in faults {
        let of = |key: &str| number(&report, &format!("/faults/{fault}/{key}"));
        assert_eq!(of("trials") + of("trials_failed"), 3.0, "{report}");
        assert!(of("trials") >= 1.0, "{report}");
        assert_eq!(of("frames_lost"), 0.0, "{report}");
        assert_eq!(of("frames_repeated"), 0.0, "{report}");
    }
    assert!(number(&report, "/messages_sent") > 0.0, "{report}");
    for wrong in [
        "messages_lost",
        "messages_repeated",
        "messages_out_of_order",
    ] {
        assert_eq!(number(&report, &format!("/{wrong}")), 0.0, "{report}");
    }
}

#[test]
fn the_simulated_faults_have_their_figures() {
    let report = bench("failover --sim --fault kill,brownout --trials 3");
    for fault in ["kill", "brownout"] {
        let of = |key: &str| number(&report, &format!("/faults/{fault}/{key}"));
        assert_eq!(of("gap_ms/n"), 3.0, "{report}");
        assert_eq!(of("frames_lost"), 0.0, "{report}");
    }
    assert_eq!(
        number(&report, "/faults/brownout/returns_per_hour"),
        0.0,
        "{report}"
    );
    let downs = number(&report, "/false_downs/internet/per_link_hour");
    assert!(downs <= 0.05, "{report}");
}

#[test]
fn a_room_s_messages_reach_all_members_also_when_its_leader_is_killed() {
    let report = bench(
        "log --members 12 --edges 3 --rate 20 --seconds 2 --joins 100 --state 40000 --leader-kills 2",
    );
    assert_eq!(number(&report, "/acked"), 40.0, "{report}");
    assert_eq!(number(&report, "/delivery_ms/n"), 480.0, "{report}");
    assert_eq!(number(&report, "/ack_ms/n"), 40.0, "{report}");
    assert_eq!(number(&report, "/snapshot_ms/n"), 12.0, "{report}");
    let kills = "/leader_kills/publishing_again_ms/n";
    assert_eq!(number(&report, kills), 2.0, "{report}");
    for of in ["", "/leader_kills"] {
        for wrong in ["gaps", "duplicates", "skipped", "missing"] {
            assert_eq!(number(&report, &format!("{of}/{wrong}")), 0.0, "{report}");
        }
    }
    for figure in [
        "joins_per_s",
        "rss_bytes_per_member",
        "us_per_delivery",
        "us_per_delivery_by_floor",
        "generator_us_per_delivery",
    ] {
        assert!(number(&report, &format!("/{figure}")) > 0.0, "{report}");
    }
}

/// Half a minute of faults; the figures of ten are the bench's.
#[test]
fn a_history_under_faults_keeps_every_law() {
    let report =
        bench("history --members 9 --regions 3 --minutes 0.5 --fault-every 6s --rate 10 --seed 5");
    let broken = report["laws_broken"].as_object().expect("laws");
    assert!(broken.is_empty(), "{report}");
    assert_eq!(report["settled"], true, "{report}");
    assert_eq!(number(&report, "/logs_changed"), 0.0, "{report}");
    assert!(number(&report, "/faults") >= 3.0, "{report}");
    let (said, acked) = (
        number(&report, "/messages_said"),
        number(&report, "/messages_acked"),
    );
    assert!(acked > 50.0 && acked >= said / 2.0, "{report}");
    assert!(
        number(&report, "/messages_given") >= acked * 5.0,
        "{report}"
    );
    // Members went to other edges, and were told states.
    assert!(number(&report, "/connections") > 9.0, "{report}");
    assert!(number(&report, "/states_compared") >= 9.0, "{report}");
}

fn in_order(report: &Value) {
    assert_eq!(number(report, "/backwards"), 0.0, "{report}");
    assert_eq!(number(report, "/not_at_key"), 0.0, "{report}");
}

#[test]
fn lessons_run_under_each_controller_and_lose_nothing() {
    let report =
        bench("lessons --lessons 1 --rtt 20 --profile clean --seconds 2 --congestion ours,cubic");
    for controller in ["ours", "cubic"] {
        let under = |pointer: &str| number(&report, &format!("/controllers/{controller}{pointer}"));
        for (kind, least) in [("audio", 90.0), ("video_key", 1.0), ("video_delta", 50.0)] {
            let n = under(&format!("/frames/{kind}/latency_ms/n"));
            assert!(n >= least, "{kind} {report}");
            assert_eq!(under(&format!("/frames/{kind}/lost")), 0.0, "{report}");
        }
        assert!(under("/link/sent_bytes") > 400_000.0, "{report}");
        assert!(under("/link/window_bytes/min") > 0.0, "{report}");
        assert_eq!(under("/link/queue_drops"), 0.0, "{report}");
    }
}

#[test]
fn overlay_judges_every_pair_and_draws_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("overlay.svg");
    let report = bench(&format!(
        "overlay --regions 4 --settle 3s --asymmetric --svg {}",
        svg.display()
    ));
    assert_eq!(number(&report, "/pairs"), 12.0, "{report}");
    assert_eq!(number(&report, "/without_path"), 0.0, "{report}");
    // The optimum is at least as good as anything else, for every pair.
    let all = report["all"].as_array().expect("a list");
    assert_eq!(all.len(), 12, "{report}");
    for pair in all {
        let ms = |key: &str| number(pair, &format!("/{key}"));
        assert!(ms("optimum_ms") <= ms("overlay_ms"), "{pair}");
        assert!(ms("optimum_ms") <= ms("direct_ms"), "{pair}");
        let way = pair["overlay"].as_array().expect("a path");
        assert_eq!(way.first(), Some(&pair["from"]), "{pair}");
        assert_eq!(way.last(), Some(&pair["to"]), "{pair}");
    }
    let is_within = |pair: &&Value| {
        let ms = |key: &str| number(pair, &format!("/{key}"));
        ms("overlay_ms") <= ms("optimum_ms") * 1.05 + 3.0
    };
    let within = all.iter().filter(is_within).count();
    assert_eq!(number(&report, "/within"), within as f64, "{report}");
    let missed = report["missed"].as_array().expect("a list");
    assert_eq!(missed.len(), 12 - within, "{report}");
    assert!(number(&report, "/stretch/max") >= 1.0, "{report}");
    let clocks = report["clocks_ahead_ms"].as_object().expect("clocks");
    assert_eq!(clocks.len(), 4, "{report}");
    for figure in ["direct", "overlay", "optimum"] {
        number(&report, &format!("/delay_ms/{figure}/over_150_ms"));
    }
    let plot = fs::read_to_string(svg).expect("a plot");
    assert!(
        plot.starts_with("<svg") && plot.ends_with("</svg>\n"),
        "{plot}"
    );
}

#[test]
fn a_bench_that_is_told_to_stop_takes_its_lab_with_it() {
    let mut bench = Command::new(binary())
        .args(["bench", "failover", "--fault", "kill"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("longspan runs");
    let mut said = BufReader::new(bench.stderr.take().expect("a pipe")).lines();
    let first = said.next().expect("a line").expect("text");
    assert!(first.starts_with("regions: "), "{first}");
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    let init = fs::read_to_string(children).expect("its init");
    let init = Path::new("/proc").join(init.trim());
    assert!(init.exists());
    let kill = Command::new("kill").arg(bench.id().to_string()).status();
    assert!(kill.expect("kill runs").success());
    let told = Instant::now();
    while bench.try_wait().expect("a child").is_none() || init.exists() {
        assert!(
            told.elapsed() < Duration::from_secs(20),
            "it goes on after SIGTERM"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_wrong_wish_is_one_line() {
    let output = Command::new(binary())
        .args(["bench", "join", "--path", "hk,sgg"])
        .output()
        .expect("longspan runs");
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        errors.trim_end(),
        "longspan: region sgg is not known (did you mean sg?)"
    );
}
