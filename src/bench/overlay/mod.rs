//! How long the paths between regions take that the controller chose out of what real relays
//! measured, against the direct links and the quickest paths there are. Real processes in network
//! namespaces; every packet between regions passes the model (`longspan_lab::tun`).
//!
//! * `measured`: the tables that relays route by, and what they measured.
//! * `judge`: what these paths are worth, by the world's true delays.
//! * `plot`: the distributions as a picture.

mod judge;
mod measured;
mod plot;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::exit,
    time::{Duration, Instant},
};

use longspan_lab::{
    matrix::{Matrix, Split},
    tun::space,
    world::Everywhere,
};
use longspan_proto::ids::Region;
use longspan_topology::paths::MAX_INTERMEDIATES;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{
    failover::field::{self, Field, Wanted},
    report::{self, round},
};
use crate::{
    cli::{Format, output},
    failure::{Failure, Outcome},
    lab::run::enter,
};
use judge::{CONVERSATION, Delays, MARGIN, Pair, SHARE, Way, ms, quantiles};
use measured::Measured;
use plot::Curve;

/// Where, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Regions with a relay each, drawn from the matrix by seed
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=15))]
    regions: u32,
    /// What is laid over the links beside their delay
    #[arg(long, default_value = "internet")]
    profile: String,
    /// Each direction of a link takes between 0.3 and 0.7 of its round trip, drawn by seed, and
    /// every relay's clock is ahead by up to an hour
    #[arg(long)]
    asymmetric: bool,
    /// From when all relays are connected until the paths are judged
    #[arg(long, default_value = "30s", value_parser = output::duration)]
    settle: Duration,
    /// Writes the distributions of delays as a plot
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// For regions, delays of directions, clocks, losses and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Paths are looked at so often while they settle.
const LOOK: Duration = Duration::from_secs(5);
/// How long the first paths may take once all relays are connected.
const PATHS: Duration = Duration::from_secs(60);
/// The most by which a relay's clock is ahead of its start.
const AHEAD: Duration = Duration::from_secs(3_600);

/// Runs it. Makes a space of its own first, so it is called before there are threads.
pub fn run(args: &Args) -> Outcome<Value> {
    if !space::is_inner() && !space::inside() {
        exit(enter()?.into());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(inside(args))
}

/// For people: the distributions side by side, then the rest without the list of all pairs.
pub fn print(report: &Value, format: Format) -> Outcome {
    if format == Format::Json {
        return output::json(report);
    }
    let rows = [
        ("p50", "median, ms"),
        ("p90", "90 % of pairs below, ms"),
        ("max", "longest, ms"),
        ("over_150_ms", "pairs over 150 ms"),
    ];
    let rows = rows.map(|(key, name)| {
        let of = |which: &str| report["delay_ms"][which][key].clone();
        let (direct, overlay, optimum) = (of("direct"), of("overlay"), of("optimum"));
        json!({ "name": name, "direct": direct, "overlay": overlay, "optimum": optimum })
    });
    let columns = [
        ("ONE-WAY DELAY", "/name"),
        ("DIRECT", "/direct"),
        ("OVERLAY", "/overlay"),
        ("OPTIMUM", "/optimum"),
    ];
    output::list(format, &rows, &columns)?;
    output::print("\n")?;
    let mut rest = report.clone();
    if let Value::Object(rest) = &mut rest {
        rest.retain(|key, _| key != "delay_ms" && key != "all");
    }
    output::object(format, &rest)
}

async fn inside(args: &Args) -> Outcome<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let matrix = Matrix::bundled();
    let everywhere = Everywhere::named(&args.profile).map_err(Failure::usage)?;
    let regions = field::draw(&matrix, args.regions, &mut rng);
    let (split, clocks) = match args.asymmetric {
        true => (Split::Drawn { seed: args.seed }, clocks(&regions, &mut rng)),
        false => (Split::Half, BTreeMap::new()),
    };
    let delays = Delays::new(&matrix, split, &regions);
    let field = Field::start(Wanted {
        matrix,
        split,
        everywhere,
        regions: regions.clone(),
        edges: false,
        clocks: clocks.clone(),
        seed: args.seed,
    })
    .await?;
    let connected = Instant::now();
    let wanted = regions.len() * (regions.len() - 1);
    field
        .until(PATHS, "every relay has a path to every other", async || {
            let measured = Measured::read(&field).await;
            let known = measured.map_err(|why| why.to_string())?.ways().len();
            match known == wanted {
                true => Ok(()),
                false => Err(format!("{known} of {wanted} paths are known")),
            }
        })
        .await?;
    let mut settling = Vec::new();
    while connected.elapsed() + LOOK < args.settle {
        tokio::time::sleep(LOOK).await;
        let pairs = delays.judge(&Measured::read(&field).await?.ways());
        let (after, within) = (connected.elapsed(), within(&pairs));
        eprintln!("{after:.0?}: {within} of {} within", pairs.len());
        settling.push(json!({ "after_s": round(after.as_secs_f64(), 1), "within": within }));
    }
    tokio::time::sleep(args.settle.saturating_sub(connected.elapsed())).await;
    let measured = Measured::read(&field).await?;
    let pairs = delays.judge(&measured.ways());
    if let Some(file) = &args.svg {
        draw(file, &regions, args.asymmetric, &pairs)?;
    }
    let clocks = clocks.iter().map(|(region, ahead)| (region, ms(*ahead)));
    let mut figures = figures(&delays, &regions, &pairs, &measured);
    let setting = json!({
        "regions": regions,
        "profile": args.profile,
        "asymmetric": args.asymmetric,
        "clocks_ahead_ms": clocks.collect::<BTreeMap<_, _>>(),
        "settle_s": args.settle.as_secs_f64(),
        "settling": settling,
        "store": field.store(),
        "lab_faulty": field.faulty()?,
    });
    if let (Value::Object(figures), Value::Object(setting)) = (&mut figures, setting) {
        figures.extend(setting);
    }
    Ok(report::report(args.seed, figures))
}

fn clocks(regions: &[Region], rng: &mut impl Rng) -> BTreeMap<Region, Duration> {
    let mut ahead = || Duration::from_micros(rng.random_range(0..=AHEAD.as_micros() as u64));
    let clocks = regions.iter().map(|region| (region.clone(), ahead()));
    clocks.collect()
}

fn within(pairs: &[Pair]) -> usize {
    pairs.iter().filter(|pair| pair.is_within()).count()
}

fn figures(delays: &Delays, regions: &[Region], pairs: &[Pair], measured: &Measured) -> Value {
    let names = |way: &Way| -> Vec<&Region> { way.iter().map(|at| &regions[*at]).collect() };
    let spread = |delay: &dyn Fn(&Pair) -> Option<Duration>| {
        let all = || pairs.iter().filter_map(delay);
        let mut spread = quantiles(all().map(ms));
        spread["over_150_ms"] = all().filter(|time| *time > CONVERSATION).count().into();
        spread
    };
    let one = |pair: &Pair| {
        json!({
            "from": regions[pair.from],
            "to": regions[pair.to],
            "direct_ms": ms(pair.direct),
            "overlay_ms": pair.overlay.map(ms),
            "overlay": pair.way.as_ref().map(names),
            "optimum_ms": ms(pair.optimum),
            "optimum": names(&pair.optimum_way),
        })
    };
    let missed = |pairs: &[Pair]| -> Vec<Value> {
        let missed = pairs.iter().filter(|pair| !pair.is_within()).map(|pair| {
            let mut missed = one(pair);
            missed["measured_beyond_ms"] = measured.beyond(pair);
            missed
        });
        missed.collect()
    };
    let stretched = pairs.iter().filter(|pair| pair.stretch().is_some());
    let worst = stretched.max_by(|a, b| f64::total_cmp(&beyond(a), &beyond(b)));
    let mut intermediates = [0; MAX_INTERMEDIATES + 1];
    for way in pairs.iter().filter_map(|pair| pair.way.as_ref()) {
        intermediates[way.len() - 2] += 1;
    }
    let directions = delays.directions(pairs);
    let towards_origin = delays.judge(&measured.ways_towards_origin());
    json!({
        "pairs": pairs.len(),
        "within": within(pairs),
        "bound": format!("{:.0} % and {} ms", SHARE * 100.0, MARGIN.as_millis()),
        "without_path": pairs.iter().filter(|pair| pair.way.is_none()).count(),
        "worst": worst.map(&one),
        "stretch": quantiles(pairs.iter().filter_map(Pair::stretch)),
        "delay_ms": {
            "direct": spread(&|pair| Some(pair.direct)),
            "overlay": spread(&|pair| pair.overlay),
            "optimum": spread(&|pair| Some(pair.optimum)),
        },
        // Pairs by the number of relays in between.
        "intermediates": intermediates,
        "directions": {
            "differ": directions.differ,
            "quicker_for_it": directions.quicker,
            "needed": directions.needed,
            "needed_and_differ": directions.needed_differ,
        },
        // Frames flow from an origin to whoever subscribed. The same paths, judged the way the
        // subscription goes:
        "towards_origin": {
            "within": within(&towards_origin),
            "missed": missed(&towards_origin),
        },
        "missed": missed(pairs),
        "all": pairs.iter().map(&one).collect::<Vec<_>>(),
    })
}

/// By how much a pair's path takes longer than the quickest, in s.
fn beyond(pair: &Pair) -> f64 {
    let overlay = pair.overlay.unwrap_or_default();
    overlay.as_secs_f64() - pair.optimum.as_secs_f64()
}

fn draw(file: &Path, regions: &[Region], asymmetric: bool, pairs: &[Pair]) -> Outcome {
    let title = format!(
        "One-way delay between {} regions ({} directed pairs{})",
        regions.len(),
        pairs.len(),
        if asymmetric { ", asymmetric links" } else { "" }
    );
    let values = |delay: &dyn Fn(&Pair) -> Option<Duration>| -> Vec<f64> {
        pairs.iter().filter_map(delay).map(ms).collect()
    };
    let curves = [
        Curve {
            name: "direct",
            colour: "#bc4c00",
            width: 2.0,
            dashes: "",
            values: values(&|pair| Some(pair.direct)),
        },
        Curve {
            name: "overlay",
            colour: "#54aeff",
            width: 4.0,
            dashes: "",
            values: values(&|pair| pair.overlay),
        },
        Curve {
            name: "optimum",
            colour: "#24292f",
            width: 1.2,
            dashes: "4 3",
            values: values(&|pair| Some(pair.optimum)),
        },
    ];
    let text = plot::svg(&title, &curves, ms(CONVERSATION));
    std::fs::write(file, text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))
}
