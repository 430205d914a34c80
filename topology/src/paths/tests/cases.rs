//! The cases of `testdata/`: a world, then `from > to: best | backup`.

use super::world::World;

fn run(text: &str) {
    for case in text.split("\n\n").filter(|case| case.contains('>')) {
        let is_told = |line: &&str| line.contains(": ");
        let world: Vec<&str> = case.lines().filter(|line| !is_told(line)).collect();
        let told: Vec<&str> = case
            .lines()
            .filter(|l| is_told(l) && !l.starts_with('#'))
            .collect();
        let world = World::parse(&world.join("\n"));
        let found: Vec<String> = told
            .iter()
            .map(|line| {
                let (ends, _) = line.split_once(": ").unwrap();
                let (from, to) = ends.split_once(" > ").unwrap();
                format!("{ends}: {}", world.told(from, to))
            })
            .collect();
        assert!(!told.is_empty(), "{case}");
        assert_eq!(told, found, "\nof the case\n{case}\n");
    }
}

#[test]
fn the_quickest_and_a_backup() {
    run(include_str!("../testdata/quickest.txt"));
}

#[test]
fn jitters_in_quadrature() {
    run(include_str!("../testdata/jitter.txt"));
}

#[test]
fn what_may_not_be_crossed() {
    run(include_str!("../testdata/constraints.txt"));
}

#[test]
fn the_cheapest_within_the_budget() {
    run(include_str!("../testdata/prices.txt"));
}
