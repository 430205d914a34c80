//! A path by numbers, and which of two is the better.

use super::MAX_INTERMEDIATES;

/// No number: what stands where there is no node.
pub(super) const NO_NODE: u16 = u16::MAX;

/// The cost of what cannot be reached, in µs. Four of the largest costs stay below it, and the sum
/// of two within an i32.
pub(super) const NEVER: i32 = (1 << 29) - 1;
/// What is above this has crossed a [`NEVER`].
pub(super) const REACHED: i32 = 1 << 28;
/// What crossing a draining node or a full link costs, in µs. Above what the costs of two paths of
/// four links may differ by (4 × 2 × 4 s), so that avoiding it comes before all else; and seven of
/// it (three nodes, four links) stay below [`REACHED`].
pub(super) const TOLL: i32 = 1 << 25;

/// A path between two nodes that are known from elsewhere, against the way that frames take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// What it costs without the clocks' offsets, in µs, tolls included.
    pub(super) cost: i32,
    /// The sum of its links' prices.
    pub(super) price: u32,
    /// How many relays it crosses.
    pub(super) len: u8,
    /// Which; the rest is [`NO_NODE`].
    pub(super) mids: [u16; MAX_INTERMEDIATES],
    /// Of each link: which of the two nodes' links.
    pub(super) nets: [u8; MAX_INTERMEDIATES + 1],
}

impl Way {
    /// No path.
    pub(super) const NONE: Way = Way {
        cost: NEVER,
        price: 0,
        len: 0,
        mids: [NO_NODE; MAX_INTERMEDIATES],
        nets: [0; MAX_INTERMEDIATES + 1],
    };

    pub(super) fn over(cost: i32, nodes: &[u16]) -> Way {
        let mut way = Way { cost, ..Way::NONE };
        for node in nodes.iter().filter(|node| **node != NO_NODE) {
            way.mids[usize::from(way.len)] = *node;
            way.len += 1;
        }
        way
    }

    /// The path over these relays, whatever it costs; none if they are too many.
    pub fn through(relays: &[usize]) -> Option<Way> {
        let relays = relays.iter().map(|relay| u16::try_from(*relay).ok());
        let relays: Vec<u16> = relays.collect::<Option<_>>()?;
        (relays.len() <= MAX_INTERMEDIATES).then(|| Way::over(0, &relays))
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.cost <= REACHED
    }

    /// The numbers of the relays between its ends.
    pub fn mids(&self) -> &[u16] {
        &self.mids[..usize::from(self.len)]
    }

    /// Its steps: from, to, and by which of the links between them.
    pub fn links(
        &self,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let way = *self;
        let node = move |place: usize| match way.mids.get(place) {
            Some(mid) if place < usize::from(way.len) => usize::from(*mid),
            _ => to,
        };
        (0..=usize::from(way.len)).map(move |place| {
            let start = if place == 0 { from } else { node(place - 1) };
            (start, node(place), usize::from(way.nets[place]))
        })
    }

    /// Whether both cross the same nodes.
    pub fn same_nodes(&self, other: &Way) -> bool {
        self.mids() == other.mids() && self.is_some() == other.is_some()
    }

    /// Whether both take the same links. The nets between two nodes are numbered by their names, so
    /// this holds only while none came or went.
    pub fn same_links(&self, other: &Way) -> bool {
        self.same_nodes(other) && self.nets == other.nets
    }

    /// The sum of its links' prices of a GB, in millionths of the operator's currency.
    pub fn price(&self) -> u32 {
        self.price
    }

    /// The same path over nodes of other numbers; none if one of them has none.
    pub fn renumbered(&self, number: impl Fn(usize) -> Option<usize>) -> Option<Way> {
        let mut way = *self;
        for mid in &mut way.mids[..usize::from(self.len)] {
            *mid = u16::try_from(number(usize::from(*mid))?).ok()?;
        }
        Some(way)
    }

    /// Cheaper, then shorter, then over nodes of lower numbers.
    pub(super) fn is_better(&self, other: &Way) -> bool {
        (self.cost, self.len, self.mids) < (other.cost, other.len, other.mids)
    }

    /// Tolls paid.
    pub(super) fn tolls(&self) -> i32 {
        tolls(self.cost)
    }

    /// What it costs beside tolls, in µs.
    pub fn cost_us(&self) -> i32 {
        self.cost - self.tolls() * TOLL
    }
}

/// How many tolls a cost holds.
pub(super) fn tolls(cost: i32) -> i32 {
    (cost + TOLL / 2).div_euclid(TOLL)
}
