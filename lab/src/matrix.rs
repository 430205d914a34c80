//! Regions and the round-trip times between them, parsed from two CSV tables and checked.

use std::{collections::BTreeMap, fmt, time::Duration};

use longspan_proto::ids::Region;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::wan::unit;

/// The longest round trip that is believed: beyond it a figure is a mistake of unit. The longest
/// of the bundled matrix is 444 ms, a geostationary satellite's about 600 ms.
pub const MAX_RTT: Duration = Duration::from_secs(10);

const REGIONS: &str = include_str!("../data/regions.csv");
const RTT: &str = include_str!("../data/rtt_internet_ms.csv");

/// Where a region is.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// For people.
    pub city: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// Why a table was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first line is not the one this table has.
    #[error("{table}: the first line is {found:?}; it must begin with {wanted:?}")]
    Header {
        /// Which table.
        table: &'static str,
        /// What stands there.
        found: String,
        /// What must stand there.
        wanted: &'static str,
    },
    /// A line has too few or too many fields.
    #[error("{table}, line {line}: {found} fields; there must be {wanted}")]
    Fields {
        /// Which table.
        table: &'static str,
        /// Counted from 1.
        line: usize,
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// A field cannot be used.
    #[error("{table}, line {line}: {what} {value:?} {why}")]
    Value {
        /// Which table.
        table: &'static str,
        /// Counted from 1.
        line: usize,
        /// Which field.
        what: String,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The same region twice.
    #[error("{table}: region {region} stands there twice")]
    Twice {
        /// Which table.
        table: &'static str,
        /// The region.
        region: Region,
    },
    /// A region without a place.
    #[error("{table}: region {region} is not known; known are {known}")]
    Unknown {
        /// Which table.
        table: &'static str,
        /// The region.
        region: String,
        /// All that are.
        known: String,
    },
    /// No delay from one region to another.
    #[error("rtt: the pair {from} – {to} is missing")]
    Missing {
        /// The one region.
        from: Region,
        /// The other.
        to: Region,
    },
    /// A delay that depends on who asks.
    #[error("rtt: {from} – {to} is {there} ms one way round and {back} ms the other")]
    Asymmetric {
        /// The one region.
        from: Region,
        /// The other.
        to: Region,
        /// The figure in the row of `from`.
        there: String,
        /// The figure in the row of `to`.
        back: String,
    },
}

/// Regions and the round-trip times between every two of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    places: BTreeMap<Region, Place>,
    rtt: BTreeMap<(Region, Region), Duration>,
}

impl Matrix {
    /// The matrix in `lab/data`.
    pub fn bundled() -> Matrix {
        Matrix::parse(REGIONS, RTT).expect("the bundled tables are tested")
    }

    /// The bundled regions with round-trip times of the caller's, in the bundled table's format.
    pub fn with_rtt(rtt: &str) -> Result<Matrix, Error> {
        Matrix::parse(REGIONS, rtt)
    }

    /// Parses both tables. Every region of the second must stand in the first; the matrix then
    /// holds the second's regions, with a symmetric figure (ms) for every pair.
    pub fn parse(regions: &str, rtt: &str) -> Result<Matrix, Error> {
        let places = parse_regions(regions)?;
        let rtt = parse_rtt(rtt, &places)?;
        let named: Vec<&Region> = rtt.keys().map(|(from, _)| from).collect();
        let places = places
            .iter()
            .filter(|(region, _)| named.contains(region))
            .map(|(region, place)| (region.clone(), place.clone()))
            .collect();
        Ok(Matrix { places, rtt })
    }

    /// All regions with their places, by name.
    pub fn places(&self) -> &BTreeMap<Region, Place> {
        &self.places
    }

    /// The mean round-trip time; zero from a region to itself; `None` where one is not known.
    pub fn rtt(&self, from: &Region, to: &Region) -> Option<Duration> {
        self.rtt.get(&(from.clone(), to.clone())).copied()
    }

    /// The mean time of one direction. Both directions of a pair add up to its round trip.
    pub fn one_way(&self, from: &Region, to: &Region, split: Split) -> Option<Duration> {
        // Whole microseconds, as a Time is; the second direction gets what is left.
        let rtt = self.rtt(from, to)?;
        let first = rtt.mul_f64(split.share(from.min(to), from.max(to)));
        let first = Duration::from_micros(first.as_micros() as u64);
        Some(if from <= to { first } else { rtt - first })
    }
}

/// How a round trip is divided into its two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Evenly.
    Half,
    /// By seed: one direction of each pair takes between 0.3 and 0.7 of the round trip, the other
    /// what is left of it. Routes of the internet are often not the same both ways.
    Drawn {
        /// Of all draws.
        seed: u64,
    },
}

impl Split {
    /// The share of the direction from → to.
    fn share(self, from: &Region, to: &Region) -> f64 {
        /// Between 1 − this and this.
        const LARGEST: f64 = 0.7;
        let Split::Drawn { seed } = self else {
            return 0.5;
        };
        // The pair draws once, whichever direction asks.
        let (first, second) = (from.min(to), from.max(to));
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (index, byte) in first.bytes().chain([0]).chain(second.bytes()).enumerate() {
            let at = 8 + index % 24;
            key[at] = key[at].rotate_left(3) ^ byte;
        }
        let draw = unit(&mut ChaCha8Rng::from_seed(key));
        let share = 1.0 - LARGEST + (2.0 * LARGEST - 1.0) * draw;
        if first == from { share } else { 1.0 - share }
    }
}

fn parse_regions(text: &str) -> Result<BTreeMap<Region, Place>, Error> {
    const TABLE: &str = "regions";
    const HEADER: &str = "region,country,city,lat,lon";
    let mut lines = lines(text);
    let found = lines.next().map_or("", |(_, line)| line);
    if found != HEADER {
        return Err(Error::Header {
            table: TABLE,
            found: found.to_owned(),
            wanted: HEADER,
        });
    }
    let mut places = BTreeMap::new();
    for (line, text) in lines {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let [region, country, city, lat, lon] = fields[..] else {
            return Err(Error::Fields {
                table: TABLE,
                line,
                found: fields.len(),
                wanted: 5,
            });
        };
        let value = |what: &str, value: &str, why: String| Error::Value {
            table: TABLE,
            line,
            what: what.to_owned(),
            value: value.to_owned(),
            why,
        };
        let degrees = |what: &str, text: &str, limit: f64| match text.parse::<f64>() {
            Ok(degrees) if degrees.abs() <= limit => Ok(degrees),
            _ => Err(value(
                what,
                text,
                format!("is not a number of degrees up to {limit}"),
            )),
        };
        if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(value(
                "country",
                country,
                "is not two capital letters (ISO 3166-1)".to_owned(),
            ));
        }
        let place = Place {
            country: country.to_owned(),
            city: city.to_owned(),
            lat: degrees("lat", lat, 90.0)?,
            lon: degrees("lon", lon, 180.0)?,
        };
        let region = Region::new(region)
            .map_err(|error| value("region", region, format!("is no name: {error}")))?;
        if places.insert(region.clone(), place).is_some() {
            return Err(Error::Twice {
                table: TABLE,
                region,
            });
        }
    }
    Ok(places)
}

fn parse_rtt(
    text: &str,
    places: &BTreeMap<Region, Place>,
) -> Result<BTreeMap<(Region, Region), Duration>, Error> {
    const TABLE: &str = "rtt";
    let known = |name: &str| {
        places
            .get_key_value(name)
            .map(|(region, _)| region.clone())
            .ok_or_else(|| Error::Unknown {
                table: TABLE,
                region: name.to_owned(),
                known: Listed(places.keys()).to_string(),
            })
    };
    let mut lines = lines(text);
    let header = lines.next().map_or("", |(_, line)| line);
    let Some(columns) = header.strip_prefix("region,") else {
        return Err(Error::Header {
            table: TABLE,
            found: header.to_owned(),
            wanted: "region,",
        });
    };
    let columns = columns
        .split(',')
        .map(|name| known(name.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, region) in columns.iter().enumerate() {
        if columns[..index].contains(region) {
            return Err(Error::Twice {
                table: TABLE,
                region: region.clone(),
            });
        }
    }
    let mut rtt = BTreeMap::new();
    for (line, text) in lines {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != columns.len() + 1 {
            return Err(Error::Fields {
                table: TABLE,
                line,
                found: fields.len(),
                wanted: columns.len() + 1,
            });
        }
        let from = known(fields[0])?;
        for (to, field) in columns.iter().zip(&fields[1..]) {
            let value = |why: &str| Error::Value {
                table: TABLE,
                line,
                what: format!("{from} – {to}"),
                value: (*field).to_owned(),
                why: why.to_owned(),
            };
            if field.is_empty() {
                return Err(Error::Missing {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            let ms: f64 = field
                .parse()
                .map_err(|_| value("is not a number of milliseconds"))?;
            if ms < 0.0 {
                return Err(value("is negative"));
            }
            // NaN lies in no range.
            if !(0.0..=MAX_RTT.as_secs_f64() * 1_000.0).contains(&ms) {
                return Err(value("is longer than 10,000 ms"));
            }
            if from == *to && ms != 0.0 {
                return Err(value("is not 0, from a region to itself"));
            }
            if from != *to && ms == 0.0 {
                return Err(value("is 0 between different regions"));
            }
            let key = (from.clone(), to.clone());
            if rtt
                .insert(key, Duration::from_secs_f64(ms / 1_000.0))
                .is_some()
            {
                return Err(Error::Twice {
                    table: TABLE,
                    region: from.clone(),
                });
            }
        }
    }
    for from in &columns {
        for to in &columns {
            let there = rtt.get(&(from.clone(), to.clone()));
            let back = rtt.get(&(to.clone(), from.clone()));
            match (there, back) {
                (Some(there), Some(back)) if there == back => {}
                (Some(there), Some(back)) => {
                    return Err(Error::Asymmetric {
                        from: from.clone(),
                        to: to.clone(),
                        there: ms(there),
                        back: ms(back),
                    });
                }
                _ => {
                    return Err(Error::Missing {
                        from: from.clone(),
                        to: to.clone(),
                    });
                }
            }
        }
    }
    Ok(rtt)
}

fn ms(duration: &Duration) -> String {
    format!("{}", duration.as_secs_f64() * 1_000.0)
}

/// Lines with their numbers, without empty ones and comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

struct Listed<I>(I);

impl<I: Iterator<Item = T> + Clone, T: fmt::Display> fmt::Display for Listed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.clone().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: &str = "region,country,city,lat,lon\na,CN,A,1,2\nb,DE,B,3,4\n";

    fn region(name: &str) -> Region {
        Region::new(name).expect("a name")
    }

    fn refused(rtt: &str) -> String {
        Matrix::parse(PLACES, rtt).expect_err("refused").to_string()
    }

    #[test]
    fn the_bundled_matrix_is_whole() {
        let matrix = Matrix::bundled();
        assert_eq!(matrix.places().len(), 15);
        let rtt = matrix.rtt(&region("cn-beijing"), &region("sg"));
        assert_eq!(rtt, Some(Duration::from_millis(238)));
        assert_eq!(matrix.places()["hk"].city, "Hong Kong");
        for from in matrix.places().keys() {
            for to in matrix.places().keys() {
                let rtt = matrix.rtt(from, to).expect("every pair");
                assert_eq!(rtt.is_zero(), from == to, "{from} – {to}");
            }
        }
    }

    #[test]
    fn directions_add_up_to_the_round_trip() {
        let matrix = Matrix::bundled();
        let half = matrix.one_way(&region("hk"), &region("sg"), Split::Half);
        assert_eq!(half, Some(Duration::from_micros(16_500)));
        let split = Split::Drawn { seed: 3 };
        let mut shares = Vec::new();
        for from in matrix.places().keys() {
            for to in matrix.places().keys().filter(|to| *to != from) {
                let rtt = matrix.rtt(from, to).expect("a pair");
                let one_way = |from, to| matrix.one_way(from, to, split).expect("a pair");
                assert_eq!(one_way(from, to) + one_way(to, from), rtt, "{from} – {to}");
                shares.push(one_way(from, to).as_secs_f64() / rtt.as_secs_f64());
            }
        }
        assert!(shares.iter().all(|share| (0.299..=0.701).contains(share)));
        // Spread over the range, and different under another seed.
        let near = |edge: f64| shares.iter().any(|share| (share - edge).abs() < 0.02);
        assert!(near(0.3) && near(0.4) && near(0.5) && near(0.6) && near(0.7));
        let other = Split::Drawn { seed: 4 };
        assert_ne!(
            matrix.one_way(&region("hk"), &region("sg"), other),
            matrix.one_way(&region("hk"), &region("sg"), split)
        );
    }

    #[test]
    fn a_matrix_may_hold_fewer_regions() {
        let matrix = Matrix::parse(PLACES, "region,b\nb,0\n").expect("a matrix");
        assert_eq!(matrix.places().len(), 1);
        assert_eq!(matrix.rtt(&region("a"), &region("b")), None);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        assert_eq!(
            refused("region,a,b\na,0,\nb,10,0\n"),
            "rtt: the pair a – b is missing"
        );
        assert_eq!(
            refused("region,a,b\na,0,10\n"),
            "rtt: the pair a – b is missing"
        );
        assert_eq!(
            refused("region,a,b\na,0,-10\nb,-10,0\n"),
            r#"rtt, line 2: a – b "-10" is negative"#
        );
        assert_eq!(
            refused("region,a,x\na,0,10\nx,10,0\n"),
            "rtt: region x is not known; known are a, b"
        );
        assert_eq!(
            refused("region,a,b\na,0,10\nb,11,0\n"),
            "rtt: a – b is 10 ms one way round and 11 ms the other"
        );
        assert_eq!(
            refused("region,a,b\na,0\nb,11,0\n"),
            "rtt, line 2: 2 fields; there must be 3"
        );
        assert!(refused("region,a,b\na,0,NaN\nb,NaN,0\n").contains("longer than"));
        assert!(refused("region,a,a\na,0,0\n").contains("twice"));
        assert!(refused("a,b\n").contains("the first line"));
        let places = PLACES.replace("CN", "China");
        let error = Matrix::parse(&places, "region,a\na,0\n").expect_err("refused");
        assert!(error.to_string().contains(r#"line 2: country "China""#));
    }
}
