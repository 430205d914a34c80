//! A vector with holes whose keys are never reused: a key kept too long finds nothing instead of
//! a stranger.

use std::{fmt, marker::PhantomData};

/// A place in a [`Slab`].
pub(super) struct Key<T> {
    index: u32,
    turn: u32,
    of: PhantomData<fn() -> T>,
}

// Derived, these would ask the same of T.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.turn) == (other.index, other.turn)
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.turn).cmp(&(other.index, other.turn))
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.turn)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Key<T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push((0, None));
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[index as usize];
        place.0 += 1;
        place.1 = Some(value);
        Key {
            index,
            turn: place.0,
            of: PhantomData,
        }
    }

    pub(super) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.0 != key.turn {
            return None;
        }
        let value = place.1.take()?;
        // A place whose turns are used up is retired for good.
        if place.0 < u32::MAX {
            self.free.push(key.index);
        }
        Some(value)
    }

    pub(super) fn get(&self, key: Key<T>) -> Option<&T> {
        let (turn, value) = self.places.get(key.index as usize)?;
        value.as_ref().filter(|_| *turn == key.turn)
    }

    pub(super) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let (turn, value) = self.places.get_mut(key.index as usize)?;
        value.as_mut().filter(|_| *turn == key.turn)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let places = self.places.iter_mut();
        places.filter_map(|(_, value)| value.as_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(index, (turn, value))| {
                let key = Key {
                    index: index as u32,
                    turn: *turn,
                    of: PhantomData,
                };
                value.as_ref().map(|value| (key, value))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_in_a_reused_place() {
        let mut slab = Slab::new();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_eq!(
            (slab.get(a), slab.get(b), slab.len()),
            (None, Some(&"b"), 1)
        );
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.iter().collect::<Vec<_>>(), vec![(b, &"b")]);
    }
}
