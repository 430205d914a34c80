//! Regions and the round-trip times between them.

use std::collections::BTreeMap;

use longspan_proto::ids::Region;

/// What is known of a region.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its slug.
    pub region: Region,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// A city in it.
    pub city: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// Why a table was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A line that is not of the table's shape.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A pair without a time.
    #[error("no round trip from {from} to {to}")]
    MissingPair {
        /// One end.
        from: Region,
        /// The other.
        to: Region,
    },
    /// A time that cannot be.
    #[error("round trip from {from} to {to}: {value} is not a time of 0 ms or more")]
    Delay {
        /// One end.
        from: Region,
        /// The other.
        to: Region,
        /// What stands there.
        value: String,
    },
    /// A region that the table does not hold.
    #[error("unknown region {region}; known are {known}")]
    UnknownRegion {
        /// What was asked for.
        region: String,
        /// What there is.
        known: String,
    },
}

/// The regions of the world we carry with us.
pub fn places() -> Vec<Place> {
    parse_places(include_str!("../data/regions.csv")).expect("our own table is well formed")
}

/// Reads a table of regions: `region,country,city,lat,lon` with a header line.
pub fn parse_places(csv: &str) -> Result<Vec<Place>, Error> {
    rows(csv)
        .skip(1)
        .map(|(line, fields)| {
            let bad = |what: String| Error::Line { line, what };
            let [region, country, city, lat, lon] = fields[..] else {
                return Err(bad(format!(
                    "{} fields instead of region,country,city,lat,lon",
                    fields.len()
                )));
            };
            let degrees = |text: &str| {
                text.parse::<f64>()
                    .map_err(|_| bad(format!("{text:?} is not a number of degrees")))
            };
            Ok(Place {
                region: Region::new(region).map_err(|e| bad(e.to_string()))?,
                country: country.to_owned(),
                city: city.to_owned(),
                lat: degrees(lat)?,
                lon: degrees(lon)?,
            })
        })
        .collect()
}

/// Round-trip times between regions, in ms.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rtt_ms: BTreeMap<(Region, Region), f64>,
    regions: Vec<Region>,
}

impl Matrix {
    /// The matrix we carry with us.
    pub fn internet() -> Matrix {
        Matrix::parse(include_str!("../data/rtt_internet_ms.csv"))
            .expect("our own table is well formed")
    }

    /// Reads a square table: a header `region,a,b,…`, then a line for each region. Directions may
    /// differ; every pair must be there.
    pub fn parse(csv: &str) -> Result<Matrix, Error> {
        let mut rows = rows(csv);
        let (line, header) = rows.next().ok_or(Error::Line {
            line: 1,
            what: "the table is empty".into(),
        })?;
        let name = |line: usize, text: &str| {
            Region::new(text).map_err(|e| Error::Line {
                line,
                what: e.to_string(),
            })
        };
        let regions = header
            .iter()
            .skip(1)
            .map(|text| name(line, text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rtt_ms = BTreeMap::new();
        for (line, fields) in rows {
            let from = name(line, fields[0])?;
            if !regions.contains(&from) {
                return Err(Error::Line {
                    line,
                    what: format!("{from} does not stand in the header"),
                });
            }
            if fields.len() > regions.len() + 1 {
                return Err(Error::Line {
                    line,
                    what: format!("{} times for {} regions", fields.len() - 1, regions.len()),
                });
            }
            for (to, value) in regions.iter().zip(&fields[1..]) {
                if value.is_empty() {
                    continue;
                }
                let ms = value
                    .parse()
                    .ok()
                    .filter(|ms: &f64| ms.is_finite() && *ms >= 0.0);
                let (from, to, value) = (from.clone(), to.clone(), (*value).to_owned());
                let ms = ms.ok_or(Error::Delay {
                    from: from.clone(),
                    to: to.clone(),
                    value,
                })?;
                rtt_ms.insert((from, to), ms);
            }
        }
        for from in &regions {
            for to in &regions {
                if from != to && !rtt_ms.contains_key(&(from.clone(), to.clone())) {
                    return Err(Error::MissingPair {
                        from: from.clone(),
                        to: to.clone(),
                    });
                }
            }
        }
        Ok(Matrix { rtt_ms, regions })
    }

    /// The regions, in the table's order.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region of this name.
    pub fn find(&self, name: &str) -> Result<&Region, Error> {
        let found = self.regions.iter().find(|region| region.as_str() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.regions.iter().map(Region::as_str).collect();
            Error::UnknownRegion {
                region: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// The round trip in ms; 0 inside a region.
    pub fn rtt_ms(&self, from: &Region, to: &Region) -> Result<f64, Error> {
        self.find(from)?;
        self.find(to)?;
        if from == to {
            return Ok(0.0);
        }
        Ok(self.rtt_ms[&(from.clone(), to.clone())])
    }
}

fn rows(csv: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    csv.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(i, line)| (i + 1, line.split(',').map(str::trim).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_tables_agree() {
        let matrix = Matrix::internet();
        let places = places();
        assert_eq!(matrix.regions().len(), 15);
        assert!(places.iter().map(|p| &p.region).eq(matrix.regions()));
        let rtt = |a: &str, b: &str| {
            matrix
                .rtt_ms(matrix.find(a).unwrap(), matrix.find(b).unwrap())
                .unwrap()
        };
        assert_eq!(rtt("cn-beijing", "sg"), 238.0);
        assert_eq!(
            rtt("cn-beijing", "cn-shanghai") + rtt("cn-shanghai", "hk") + rtt("hk", "sg"),
            181.0
        );
        assert_eq!(rtt("hk", "hk"), 0.0);
    }

    #[test]
    fn bad_tables_are_refused_by_name() {
        let refused = |csv: &str| Matrix::parse(csv).unwrap_err().to_string();
        assert_eq!(
            refused("region,a,b\na,0,\nb,7,0"),
            "no round trip from a to b"
        );
        assert_eq!(refused("region,a,b\na,0,5"), "no round trip from b to a");
        assert_eq!(
            refused("region,a,b\na,0,-5\nb,5,0"),
            "round trip from a to b: -5 is not a time of 0 ms or more"
        );
        assert_eq!(
            refused("region,a,b\na,0,x\nb,5,0"),
            "round trip from a to b: x is not a time of 0 ms or more"
        );
        assert_eq!(
            refused("region,a,b\nc,0,5"),
            "line 2: c does not stand in the header"
        );
        assert_eq!(refused(""), "line 1: the table is empty");
        let unknown = Matrix::parse("region,a,b\na,0,5\nb,5,0")
            .unwrap()
            .find("mars")
            .unwrap_err();
        assert_eq!(unknown.to_string(), "unknown region mars; known are a, b");
    }
}
