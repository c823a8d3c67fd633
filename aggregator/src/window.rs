//! Which scans were seen before: a record is a duplicate if a lower offset of its partition has the same person and scan
//! id.
//!
//! Ids are remembered for a window of log-append time, and up to a number. An id carries the time at which its client made it: one
//! made after every id that was forgotten is none of them. One made earlier may have been seen before the window, so it is checked
//! against raw.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use scan_model::{PersonId, Scan, ScanId, Timestamp};

/// How far ahead of its arrival an id's own time may be; ingest refuses more.
pub const CLOCK_SKEW_MS: i64 = 5 * 60_000;

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

/// A remembered id; 40 bytes, because an aggregator remembers millions.
struct Known {
    person: PersonId,
    /// The scan id's halves: a number of 128 bits would be padded to 16.
    scan: [u64; 2],
    digest: u64,
    appended_at: Timestamp,
}

impl Known {
    fn is(&self, person: PersonId, scan: [u64; 2]) -> bool {
        self.scan == scan && self.person == person
    }
}

const fn halves(scan: ScanId) -> [u64; 2] {
    [(scan.0 >> 64) as u64, scan.0 as u64]
}

/// Ids of one partition: some 50 bytes each.
pub struct Window {
    length_ms: i64,
    capacity: usize,
    /// In the order of the log.
    known: VecDeque<Known>,
    /// The number of ids forgotten, which is the first remembered one's own number. It wraps.
    forgotten: u32,
    /// The numbers of remembered ids.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Ids made after this instant are remembered if they were ever seen.
    forgotten_made_at: Timestamp,
}

/// The digest of a row whose contents are not at hand: it equals every other.
pub const UNKNOWN_DIGEST: u64 = 0;

impl Window {
    /// An empty window that remembers everything appended from `complete_since` on, at most 2^31 ids.
    pub fn new(length_ms: i64, capacity: usize, complete_since: Timestamp) -> Self {
        Self {
            length_ms,
            capacity: capacity.clamp(1, 1 << 31),
            known: VecDeque::new(),
            forgotten: 0,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            forgotten_made_at: complete_since.plus_ms(CLOCK_SKEW_MS - 1),
        }
    }

    /// Asks for an id without remembering it.
    pub fn ask(&self, scan: &Scan, digest: u64) -> Seen {
        match self.find(scan.person, halves(scan.scan_id)) {
            Some(known) if known.digest == digest || known.digest == UNKNOWN_DIGEST => {
                Seen::Duplicate
            }
            Some(_) => Seen::Conflict,
            None if scan.scan_id.made_at() <= self.forgotten_made_at => Seen::PerhapsInRaw,
            None => Seen::New,
        }
    }

    fn find(&self, person: PersonId, scan: [u64; 2]) -> Option<&Known> {
        let hash = self.hasher.hash_one((person.0, scan));
        let number = self.index.find(hash, |number| {
            self.numbered(*number)
                .is_some_and(|known| known.is(person, scan))
        });
        number.and_then(|number| self.numbered(*number))
    }

    fn numbered(&self, number: u32) -> Option<&Known> {
        self.known.get(number.wrapping_sub(self.forgotten) as usize)
    }

    /// Remembers an id, and forgets what the window or its bound leaves behind.
    pub fn remember(
        &mut self,
        person: PersonId,
        scan: ScanId,
        digest: u64,
        appended_at: Timestamp,
    ) {
        let oldest_kept = appended_at.plus_ms(-self.length_ms);
        while self.known.len() >= self.capacity
            || self
                .known
                .front()
                .is_some_and(|known| known.appended_at < oldest_kept)
        {
            self.forget_oldest();
        }
        let scan = halves(scan);
        let number = self.forgotten.wrapping_add(self.known.len() as u32);
        self.known.push_back(Known {
            person,
            scan,
            digest,
            appended_at,
        });
        let (known, forgotten, hasher) = (&self.known, self.forgotten, &self.hasher);
        let hash = hasher.hash_one((person.0, scan));
        self.index.insert_unique(hash, number, |number| {
            let known = &known[number.wrapping_sub(forgotten) as usize];
            hasher.hash_one((known.person.0, known.scan))
        });
    }

    /// Forgets one id, as if it had never been seen: its scan became a dead letter, which counts when it is sent again.
    pub fn forget(&mut self, person: PersonId, scan: ScanId) {
        let scan = halves(scan);
        let hash = self.hasher.hash_one((person.0, scan));
        let (known, forgotten) = (&self.known, self.forgotten);
        let is_it = |number: &u32| {
            known
                .get(number.wrapping_sub(forgotten) as usize)
                .is_some_and(|known| known.is(person, scan))
        };
        // Its place stays taken until the window leaves it behind.
        if let Ok(entry) = self.index.find_entry(hash, is_it) {
            entry.remove();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.known.front() else {
            return;
        };
        let hash = self.hasher.hash_one((oldest.person.0, oldest.scan));
        let number = self.forgotten;
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == number) {
            entry.remove();
        }
        let id = ScanId(u128::from(oldest.scan[0]) << 64 | u128::from(oldest.scan[1]));
        self.forgotten_made_at = self.forgotten_made_at.max(id.made_at());
        self.known.pop_front();
        self.forgotten = number.wrapping_add(1);
    }

    /// What digests for this window are made with; no other window or process has the same.
    pub const fn hasher(&self) -> &DefaultHashBuilder {
        &self.hasher
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
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
    fn inv1_an_id_that_became_a_dead_letter_is_new_when_it_comes_again() {
        let mut window = window(3);
        let (letter, other) = (scan(NOW, 1), scan(NOW, 2));
        remember(&mut window, &letter, NOW);
        remember(&mut window, &other, NOW);
        window.forget(letter.person, letter.scan_id);
        assert_eq!(window.ask(&letter, 7), Seen::New);
        assert_eq!(window.ask(&other, 7), Seen::Duplicate);
        remember(&mut window, &letter, NOW + 1);
        // The first place of the letter is left behind; its second one stays.
        remember(&mut window, &scan(NOW + 2, 3), NOW + 2);
        assert_eq!(window.ask(&letter, 7), Seen::Duplicate);
        window.forget(other.person, ScanId(99));
        assert_eq!(window.ask(&other, 7), Seen::Duplicate);
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

    #[test]
    fn x3_an_id_made_after_every_forgotten_one_is_new_however_few_are_remembered() {
        let mut window = Window::new(10 * MINUTE, 2, Timestamp(0));
        for n in 0..10 {
            remember(&mut window, &scan(NOW + n, n as u128), NOW + n);
        }
        // 0 to 7 are forgotten.
        assert_eq!(window.ask(&scan(NOW + 7, 77), 7), Seen::PerhapsInRaw);
        assert_eq!(window.ask(&scan(NOW + 8, 77), 7), Seen::New);
    }

    #[test]
    fn x3_a_window_that_was_rebuilt_allows_for_clocks_that_are_ahead() {
        let window = window(100);
        let complete_since = NOW - 10 * MINUTE;
        let doubtful = scan(complete_since + CLOCK_SKEW_MS - 1, 1);
        assert_eq!(window.ask(&doubtful, 7), Seen::PerhapsInRaw);
        let new = scan(complete_since + CLOCK_SKEW_MS, 1);
        assert_eq!(window.ask(&new, 7), Seen::New);
    }

    proptest::proptest! {
        #[test]
        fn x3_the_window_answers_as_a_list_of_the_last_ids_would(
            ids in proptest::collection::vec(0..40_u128, 1..200),
            capacity in 1..20_usize,
        ) {
            let mut window = Window::new(10 * MINUTE, capacity, Timestamp(NOW));
            let mut list: VecDeque<u128> = VecDeque::new();
            for (at, id) in ids.into_iter().enumerate() {
                let one = scan(NOW + CLOCK_SKEW_MS - 1, id);
                let expected = if list.contains(&id) { Seen::Duplicate } else { Seen::PerhapsInRaw };
                proptest::prop_assert_eq!(window.ask(&one, 7), expected);
                if expected == Seen::PerhapsInRaw {
                    remember(&mut window, &one, NOW + at as i64);
                    list.push_back(id);
                    if list.len() > capacity {
                        list.pop_front();
                    }
                }
                proptest::prop_assert_eq!(window.len(), list.len());
            }
        }
    }
}
