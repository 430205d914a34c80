//! What waits for one consumer inside this node. Bounded: a consumer that lags loses whole
//! groups, oldest first, and is told of each.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use longspan_proto::wire::EndReason;
use tokio::sync::Notify;

use crate::forward::LocalEvent;

/// Events that wait before groups are dropped.
pub(crate) const MAX_EVENTS: usize = 1_024;
/// Payload bytes that wait before groups are dropped.
pub(crate) const MAX_BYTES: usize = 32 << 20;
/// Events of any kind after which the consumer is given up: it has not read for at least a
/// thousand dropped groups.
const GIVE_UP: usize = 2 * MAX_EVENTS;

#[derive(Default)]
struct Queue {
    events: VecDeque<LocalEvent>,
    bytes: usize,
    /// Groups whose rest is thrown away as it comes.
    dropping: BTreeSet<u64>,
    ended: bool,
    lost_groups: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, event: LocalEvent) {
        self.lock().push(event);
        self.arrived.notify_one();
    }

    /// The next event; `None` after `End` was taken.
    pub async fn next(&self) -> Option<LocalEvent> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut queue = self.lock();
                if let Some(event) = queue.events.pop_front() {
                    queue.bytes -= size(&event);
                    return Some(event);
                }
                if queue.ended {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

fn size(event: &LocalEvent) -> usize {
    match event {
        LocalEvent::Frame { frame, .. } => frame.payload.len(),
        _ => 0,
    }
}

/// The group an event belongs to.
fn group(event: &LocalEvent) -> Option<u64> {
    match event {
        LocalEvent::Group(header) => Some(header.group),
        LocalEvent::Frame { group, .. }
        | LocalEvent::GroupEnd { group }
        | LocalEvent::GroupDropped { group, .. } => Some(*group),
        LocalEvent::Path(_) | LocalEvent::End { .. } => None,
    }
}

/// The first frame that is missing if this event goes.
fn missing_from(event: &LocalEvent) -> Option<u64> {
    match event {
        LocalEvent::Group(header) => Some(header.first_frame),
        LocalEvent::Frame { index, .. } => Some(*index),
        _ => None,
    }
}

impl Queue {
    fn push(&mut self, event: LocalEvent) {
        if self.ended {
            return;
        }
        if let Some(group) = group(&event).filter(|group| self.dropping.contains(group)) {
            if matches!(
                event,
                LocalEvent::GroupEnd { .. } | LocalEvent::GroupDropped { .. }
            ) {
                self.dropping.remove(&group);
            }
            return;
        }
        if let (Some(group), Some(from_frame)) = (group(&event), missing_from(&event)) {
            while self.is_full(size(&event)) {
                match self.oldest() {
                    Some(oldest) if oldest != group => self.drop_group(oldest),
                    // The newest group alone fills the queue: its rest goes.
                    _ => {
                        self.lost_groups += 1;
                        self.dropping.insert(group);
                        self.add(LocalEvent::GroupDropped { group, from_frame });
                        return;
                    }
                }
            }
        }
        self.add(event);
    }

    fn is_full(&self, more: usize) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes + more > MAX_BYTES
    }

    /// The group at the front of what may be dropped.
    fn oldest(&self) -> Option<u64> {
        self.events
            .iter()
            .find(|event| missing_from(event).is_some())
            .and_then(group)
    }

    /// Takes all of a group out and says so in its place.
    fn drop_group(&mut self, oldest: u64) {
        self.lost_groups += 1;
        let mut whole = false;
        let mut said = false;
        let events = std::mem::take(&mut self.events);
        for event in events {
            if group(&event) != Some(oldest) {
                self.events.push_back(event);
                continue;
            }
            self.bytes -= size(&event);
            match missing_from(&event) {
                Some(from_frame) if !said => {
                    said = true;
                    self.events.push_back(LocalEvent::GroupDropped {
                        group: oldest,
                        from_frame,
                    });
                }
                Some(_) => {}
                None => whole = true,
            }
        }
        if !whole {
            self.dropping.insert(oldest);
        }
    }

    fn add(&mut self, event: LocalEvent) {
        if self.events.len() >= GIVE_UP {
            self.events.clear();
            self.bytes = 0;
            self.ended = true;
            self.events.push_back(LocalEvent::End {
                reason: EndReason::Limit,
                message: format!(
                    "the consumer did not read; {GIVE_UP} events wait, {} groups were dropped",
                    self.lost_groups
                ),
            });
            return;
        }
        self.ended = matches!(event, LocalEvent::End { .. });
        self.bytes += size(&event);
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use longspan_proto::wire::{Flags, Frame, GroupHeader, Priority};

    use super::*;

    fn header(group: u64) -> LocalEvent {
        LocalEvent::Group(GroupHeader {
            subscription: 0,
            group,
            first_frame: 0,
            timestamp: 0,
            origin_time: 0,
            replay: false,
        })
    }

    fn frame(group: u64, index: u64, len: usize) -> LocalEvent {
        LocalEvent::Frame {
            group,
            index,
            frame: Frame {
                timestamp: 0,
                flags: Flags::default(),
                priority: Priority::Realtime,
                payload: Bytes::from(vec![0; len]),
            },
        }
    }

    fn fill(queue: &mut Queue, group: u64, frames: u64) {
        queue.push(header(group));
        for index in 0..frames {
            queue.push(frame(group, index, 10));
        }
    }

    #[test]
    fn nothing_is_lost_up_to_the_limit() {
        let mut queue = Queue::default();
        fill(&mut queue, 0, MAX_EVENTS as u64 - 1);
        assert_eq!(queue.events.len(), MAX_EVENTS);
        assert_eq!(queue.lost_groups, 0);
    }

    #[test]
    fn the_oldest_group_goes_whole_and_is_announced() {
        let mut queue = Queue::default();
        fill(&mut queue, 0, 500);
        queue.push(LocalEvent::GroupEnd { group: 0 });
        fill(&mut queue, 1, 600);
        assert_eq!(
            queue.events[0],
            LocalEvent::GroupDropped {
                group: 0,
                from_frame: 0
            }
        );
        assert_eq!(queue.events[1], header(1));
        assert_eq!(queue.events.len(), 1 + 601);
        assert_eq!(queue.bytes, 6_000);
    }

    #[test]
    fn the_rest_of_a_dropped_group_is_thrown_away_until_its_end() {
        let mut queue = Queue::default();
        fill(&mut queue, 0, 500);
        fill(&mut queue, 1, 600);
        let before = queue.events.len();
        queue.push(frame(0, 500, 10));
        queue.push(LocalEvent::GroupEnd { group: 0 });
        assert_eq!(queue.events.len(), before);
        assert!(queue.dropping.is_empty());
    }

    #[test]
    fn a_single_group_that_fills_the_queue_loses_its_rest() {
        let mut queue = Queue::default();
        fill(&mut queue, 7, 2_000);
        assert_eq!(
            queue.events.back(),
            Some(&LocalEvent::GroupDropped {
                group: 7,
                from_frame: MAX_EVENTS as u64 - 1
            })
        );
        assert_eq!(queue.events.len(), MAX_EVENTS + 1);
    }

    #[test]
    fn bytes_count_too() {
        let mut queue = Queue::default();
        queue.push(header(0));
        for index in 0..40 {
            queue.push(frame(0, index, 1 << 20));
        }
        assert_eq!(queue.bytes, MAX_BYTES);
    }

    #[test]
    fn whoever_never_reads_is_given_up() {
        let mut queue = Queue::default();
        for group in 0..10_000 {
            fill(&mut queue, group, 3);
            queue.push(LocalEvent::GroupEnd { group });
        }
        assert!(queue.ended);
        assert!(matches!(
            queue.events.back(),
            Some(LocalEvent::End {
                reason: EndReason::Limit,
                ..
            })
        ));
        assert!(queue.events.len() <= GIVE_UP);
    }
}
