//! Which scans were seen before: a record is a duplicate if a lower offset of its partition has the same person and scan
//! id.
//!
//! Ids are remembered for a window of log-append time. An id carries the time at which its client made it, and ingest takes
//! none from the future; an id made before the window may have been seen before it, so it is checked against raw.

use std::collections::{HashMap, VecDeque};

use scan_model::{PersonId, Scan, ScanId, Timestamp};

/// How far ahead of its arrival an id's own time may be; ingest refuses more.
pub const CLOCK_SKEW_MS: i64 = 5 * 60_000;

type Key = (PersonId, ScanId);

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A first copy.
    New,
    /// A first copy as far as the window goes; raw decides.
    PerhapsInRaw,
    /// A copy of a scan seen before.
    Duplicate,
    /// The id of another scan: other contents under the same id.
    Conflict,
}

/// Ids of one partition.
pub struct Window {
    length_ms: i64,
    capacity: usize,
    digests: HashMap<Key, u64>,
    order: VecDeque<(Timestamp, Key)>,
    /// Ids made at or after this instant are all remembered.
    complete_since: Timestamp,
}

/// The digest of a row whose contents are not at hand: it equals every other.
pub const UNKNOWN_DIGEST: u64 = 0;

impl Window {
    /// An empty window that remembers everything appended from `complete_since` on.
    pub fn new(length_ms: i64, capacity: usize, complete_since: Timestamp) -> Self {
        Self {
            length_ms,
            capacity,
            digests: HashMap::new(),
            order: VecDeque::new(),
            complete_since,
        }
    }

    /// Asks for an id without remembering it.
    pub fn ask(&self, scan: &Scan, digest: u64) -> Seen {
        match self.digests.get(&(scan.person, scan.scan_id)) {
            Some(&known) if known == digest || known == UNKNOWN_DIGEST => Seen::Duplicate,
            Some(_) => Seen::Conflict,
            None if scan.scan_id.made_at().0 - CLOCK_SKEW_MS < self.complete_since.0 => {
                Seen::PerhapsInRaw
            }
            None => Seen::New,
        }
    }

    /// Remembers an id, and forgets what the window or its bound leaves behind.
    pub fn remember(
        &mut self,
        person: PersonId,
        scan: ScanId,
        digest: u64,
        appended_at: Timestamp,
    ) {
        let key = (person, scan);
        self.digests.insert(key, digest);
        self.order.push_back((appended_at, key));
        while let Some(&(oldest, key)) = self.order.front() {
            let is_past = oldest.0 < appended_at.0 - self.length_ms;
            if !is_past && self.order.len() <= self.capacity {
                break;
            }
            self.order.pop_front();
            self.digests.remove(&key);
            // Everything appended after the forgotten one is still remembered.
            self.complete_since = self.complete_since.max(oldest.plus_ms(1));
        }
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::scan::{
        Carrier, Direction, Disposition, ScanKind, ShownStatus, TemperatureBand,
    };
    use scan_model::{CategorySet, Colour, VenueType, enrolment::Sex};

    fn scan(made_at_ms: i64, tail: u128) -> Scan {
        Scan {
            scan_id: ScanId((made_at_ms as u128) << 80 | tail),
            person: PersonId(1),
            kind: ScanKind::Display,
            site: None,
            checkpoint: 0,
            region: 0,
            venue_type: VenueType::Unspecified,
            direction: Direction::Unknown,
            band: TemperatureBand::NotTaken,
            decidegrees: None,
            shown: ShownStatus {
                colour: Colour::GREEN,
                categories: CategorySet::EMPTY,
                version: 1,
            },
            disposition: Disposition::Admitted,
            sex: Sex::Unknown,
            birth_year: None,
            carrier: Carrier::AppCode,
            operator: 0,
            event_time: Timestamp(made_at_ms),
            received_at: Timestamp(made_at_ms),
            corrects: None,
            party: None,
            synthetic: false,
        }
    }

    const MINUTE: i64 = 60_000;
    const NOW: i64 = 1_800_000_000_000;

    fn window(capacity: usize) -> Window {
        Window::new(10 * MINUTE, capacity, Timestamp(NOW - 10 * MINUTE))
    }

    fn remember(window: &mut Window, scan: &Scan, at: i64) {
        window.remember(scan.person, scan.scan_id, 7, Timestamp(at));
    }

    #[test]
    fn x3_a_copy_is_a_duplicate_and_other_contents_a_conflict() {
        let mut window = window(100);
        let first = scan(NOW, 1);
        assert_eq!(window.ask(&first, 7), Seen::New);
        remember(&mut window, &first, NOW);
        assert_eq!(window.ask(&first, 7), Seen::Duplicate);
        assert_eq!(window.ask(&first, 8), Seen::Conflict);
    }

    #[test]
    fn x3_an_id_made_before_the_window_is_checked_against_raw() {
        let mut window = window(100);
        let first = scan(NOW, 1);
        remember(&mut window, &first, NOW);
        remember(&mut window, &scan(NOW + 11 * MINUTE, 2), NOW + 11 * MINUTE);
        assert_eq!(window.ask(&first, 7), Seen::PerhapsInRaw);
    }

    #[test]
    fn x3_an_id_forgotten_for_the_bound_is_checked_against_raw() {
        let mut window = window(2);
        // An id's own time may be ahead of its arrival by the skew that ingest allows.
        let ids: Vec<Scan> = (0..4)
            .map(|n| scan(NOW + n + CLOCK_SKEW_MS, n as u128))
            .collect();
        for (n, id) in ids.iter().enumerate() {
            remember(&mut window, id, NOW + n as i64);
        }
        assert_eq!(window.len(), 2);
        assert_eq!(window.ask(&ids[0], 7), Seen::PerhapsInRaw);
        assert_eq!(window.ask(&ids[1], 7), Seen::PerhapsInRaw);
        assert_eq!(window.ask(&ids[2], 7), Seen::Duplicate);
    }
}
