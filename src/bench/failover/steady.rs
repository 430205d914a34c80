//! What a lesson costs on the wire while nothing fails: the figures of the faults are not to be
//! bought by sending everything twice.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use longspan_proto::ids::{NodeId, Region};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use super::{
    field::{Field, bench_edge},
    lesson::{Lesson, PAYLOAD_BPS},
    trial::until,
};
use crate::{
    bench::report::round,
    failure::{Failure, Outcome},
};

/// How long is measured without a lesson, and with one.
const WINDOW: Duration = Duration::from_secs(5);
/// How long the links may take to know what they are needed for, before either.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the lesson may take to begin.
const BEGIN: Duration = Duration::from_secs(15);

/// Bytes a second on each link between regions.
type Rates = BTreeMap<(Region, Region), f64>;

/// Measures one lesson over the pair of regions whose way is longest.
pub async fn measure(field: &Field, rng: &mut impl Rng) -> Outcome<Value> {
    // A track that moves is taken over both ways for a while.
    field.settled().await;
    let (from, to) = longest(field)?;
    let before = rates(field).await;
    let stream = format!("s{:016x}", rng.random::<u64>());
    let (origin, viewer) = (&field.sites[from], &field.sites[to]);
    let lesson = Lesson::start(&stream, origin.node()?, viewer.node()?)?;
    if !until(BEGIN, || lesson.one_way()).await {
        return Err(Failure::failed(format!(
            "no lesson from {} to {} within {BEGIN:?}",
            origin.area.region, viewer.area.region
        )));
    }
    tokio::time::sleep(SETTLE).await;
    let after = rates(field).await;
    let path = lesson.path();
    let hops = hops(field, &path);
    Ok(figures(&before, &after, &hops))
}

/// The sites (origin, viewer) between which the tables' way has most nodes.
fn longest(field: &Field) -> Outcome<(usize, usize)> {
    let mut longest = (0, (0, 1));
    for (from, origin) in field.sites.iter().enumerate() {
        let origin = NodeId::new(&bench_edge(&origin.area.region)).map_err(Failure::failed)?;
        for (to, viewer) in field.sites.iter().enumerate().filter(|(to, _)| *to != from) {
            let ways = viewer.node()?.ways(&origin);
            longest = longest.max((ways.first().map_or(0, Vec::len), (from, to)));
        }
    }
    Ok(longest.1)
}

/// The links between regions of a path, in its order.
fn hops(field: &Field, path: &[NodeId]) -> Vec<(Region, Region)> {
    let region = |node: &NodeId| Some(field.site_of(node)?.area.region.clone());
    let pairs = path.windows(2);
    pairs
        .filter_map(|pair| Some((region(&pair[0])?, region(&pair[1])?)))
        .filter(|(from, to)| from != to)
        .collect()
}

async fn rates(field: &Field) -> Rates {
    let (began, before) = (Instant::now(), field.carried());
    tokio::time::sleep(WINDOW).await;
    let (seconds, after) = (began.elapsed().as_secs_f64(), field.carried());
    let rate = |(link, bytes): (&(Region, Region), &u64)| {
        let before = before.get(link).copied().unwrap_or_default();
        (link.clone(), (bytes - before) as f64 / seconds)
    };
    after.iter().map(rate).collect()
}

fn figures(before: &Rates, after: &Rates, hops: &[(Region, Region)]) -> Value {
    let added = |link: &(Region, Region)| {
        let rate = |rates: &Rates| rates.get(link).copied().unwrap_or_default();
        rate(after) - rate(before)
    };
    let all: f64 = after.keys().map(added).sum();
    let back = |(from, to): &(Region, Region)| (to.clone(), from.clone());
    let path: f64 = hops.iter().map(|hop| added(hop) + added(&back(hop))).sum();
    let media = PAYLOAD_BPS / 8.0 * hops.len() as f64;
    json!({
        // All that the lesson added on any link, of what it added on the links of its one path.
        "bytes_ratio": round(all / path, 3),
        // The same, of the frames' bytes on each link of the path.
        "bytes_over_payload": round(all / media, 3),
        "hops": hops.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beside_the_path_counts_and_what_was_there_before_does_not() {
        let region = |name: &str| name.parse::<Region>().expect("a region");
        let link = |from: &str, to: &str| (region(from), region(to));
        let bytes = PAYLOAD_BPS / 8.0;
        let idle = 100.0;
        let before = Rates::from([(link("a", "b"), idle), (link("b", "a"), idle)]);
        let after = Rates::from([
            (link("a", "b"), idle + bytes * 1.08),
            (link("b", "a"), idle + bytes * 0.02),
            (link("c", "b"), bytes * 0.055),
        ]);
        let told = figures(&before, &after, &[link("a", "b")]);
        assert_eq!(told["bytes_ratio"], 1.05);
        assert_eq!(told["bytes_over_payload"], 1.155);
    }
}
