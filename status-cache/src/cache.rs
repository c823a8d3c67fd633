//! Answers lookups; what is applied is applied in a [turn](Turn).

mod turn;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log::{Offset, Partition};
use parking_lot::Mutex;
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::{
    Alias, CategorySet, CodeRevocation, Declaration, Fact, Identity, PersonId, Timestamp,
};

use crate::aliases::Aliases;
use crate::layout::version_of;
use crate::positions::{AppliedPositions, Positions, StatusTopic};
use crate::side_table::SideTable;
use crate::table::{Resident, SEGMENTS, Table, TableFull};

pub use self::turn::Turn;

/// A person's status at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonStatus {
    /// The categories active at the moment asked for.
    pub active: CategorySet,
    /// The count of the person's changes, modulo 65,536 (S6).
    pub version: u16,
    /// Codes issued before this instant are revoked.
    pub codes_valid_from: Timestamp,
    /// Day of the last declaration, which renews a Suikang code (P5).
    pub last_declaration: Option<Timestamp>,
    /// The masked name.
    pub name: MaskedName,
    /// The masked phone number.
    pub phone: Option<MaskedPhone>,
    /// Sex.
    pub sex: Sex,
    /// Birth year.
    pub birth_year: Option<u16>,
    /// How the identity was checked.
    pub verification: Verification,
    /// 16 keyed bits beyond the id, against collisions.
    pub residue: u16,
    /// Whether load generation made this person (X11).
    pub synthetic: bool,
}

/// What applying a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The status changed.
    Changed,
    /// The record was known already.
    Known,
    /// Another person has the id: the earlier enrolment stays (P1).
    Collision,
}

/// The cache. Readers take no lock; writers take turns.
pub struct StatusCache {
    table: Table,
    side_table: SideTable,
    aliases: Aliases,
    behind: Mutex<Behind>,
    /// Enrolments that found the table full.
    without_place: AtomicU64,
}

/// What the writer alone knows.
#[derive(Default)]
pub(crate) struct Behind {
    /// Revocations of persons who are not enrolled yet, for topics are read side by side. They are never forgotten (P4).
    pub(crate) early_revocations: HashMap<PersonId, Vec<CodeRevocation>>,
    /// When somebody who is not enrolled yet declared last, for the same reason.
    pub(crate) early_declarations: HashMap<PersonId, Timestamp>,
    /// What of the log is in the cache.
    pub(crate) applied: AppliedPositions,
}

impl StatusCache {
    /// A cache for up to `capacity` persons.
    ///
    /// # Errors
    /// Where the system refuses address space for them.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            table: Table::new(capacity)?,
            side_table: SideTable::default(),
            aliases: Aliases::default(),
            behind: Mutex::default(),
            without_place: AtomicU64::new(0),
        })
    }

    /// The same cache, which takes the room of so many persons once it grows, some 37 bytes each: an import is a fifth quicker. It
    /// grows to more.
    #[must_use]
    pub fn expecting(self, persons: usize) -> Self {
        Self {
            table: self.table.expecting(persons),
            ..self
        }
    }

    /// A person's status at `now`; `None` for someone unknown. Memory only (INV-2).
    #[inline]
    pub fn get(&self, person: PersonId, now: Timestamp) -> Option<PersonStatus> {
        let resident = self.table.get(person)?;
        Some(self.status(person, resident, now))
    }

    /// The statuses of many, in the order asked. Their records are on their way from memory before the first is looked at.
    pub fn get_each(
        &self,
        persons: &[PersonId],
        now: Timestamp,
        mut found: impl FnMut(Option<PersonStatus>),
    ) {
        let mut asked = persons.iter();
        self.table.get_each(persons, |resident| {
            let person = asked.next();
            found(
                resident
                    .zip(person)
                    .map(|(resident, person)| self.status(*person, resident, now)),
            );
        });
    }

    fn status(&self, id: PersonId, resident: Resident, now: Timestamp) -> PersonStatus {
        let Resident {
            decision,
            person: word,
            shown,
        } = resident;
        let active = if decision.is_due(now) {
            self.side_table.active(id, now).0
        } else {
            decision.categories()
        };
        PersonStatus {
            active,
            version: version_of(decision, word),
            codes_valid_from: decision.codes_valid_from(),
            last_declaration: decision.last_declaration(),
            name: shown.name(),
            phone: shown.phone(),
            sex: word.sex(),
            birth_year: word.birth_year(),
            verification: word.verification(),
            residue: word.residue(),
            synthetic: word.is_synthetic(),
        }
    }

    /// The identity under which the person of a document is enrolled (P1). Memory only (INV-2).
    pub fn resolve(&self, identity: Identity) -> Identity {
        self.aliases.resolve(identity)
    }

    /// The aliases, for their figures and for snapshots.
    pub const fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// A person's facts, active or not, each with its provenance.
    pub fn facts(&self, person: PersonId) -> Vec<Fact> {
        self.side_table.get(person)
    }

    /// Enrolments that found the table full since this process began: answers do not know these persons, and no snapshot is written.
    pub fn without_place(&self) -> u64 {
        self.without_place.load(Ordering::Relaxed)
    }

    /// Counts an enrolment that found the table full; answers how many did before.
    pub(crate) fn count_without_place(&self) -> u64 {
        self.without_place.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the writer's turn: what is applied in it is in no snapshot, or all of it is.
    pub fn turn(&self) -> Turn<'_> {
        // Always in this order.
        let table = self.table.writer();
        Turn {
            cache: self,
            table,
            behind: self.behind.lock(),
        }
    }

    /// Takes an enrolment in, in a turn of its own.
    ///
    /// # Errors
    /// [`TableFull`] where no more persons fit.
    pub fn apply_enrolment(&self, enrolment: &Enrolment) -> Result<Applied, TableFull> {
        self.turn().apply_enrolment(enrolment)
    }

    /// Takes a fact in, in a turn of its own.
    pub fn apply_fact(&self, fact: Fact) -> Applied {
        self.turn().apply_fact(fact)
    }

    /// Takes a declaration in, in a turn of its own.
    pub fn apply_declaration(&self, declaration: &Declaration) -> Applied {
        self.turn().apply_declaration(declaration)
    }

    /// Takes an alias in, in a turn of its own.
    pub fn apply_alias(&self, alias: &Alias) -> Applied {
        self.turn().apply_alias(alias)
    }

    /// Takes a revocation in, in a turn of its own.
    pub fn apply_revocation(&self, revocation: &CodeRevocation) -> Applied {
        self.turn().apply_revocation(revocation)
    }

    /// Brings decisions whose change is due up to date, so that lookups leave the side table again.
    /// Answers whose were changed.
    pub fn sweep_due(&self, now: Timestamp) -> usize {
        let mut swept = 0;
        for segment in 0..SEGMENTS {
            for person in self.side_table.persons(segment) {
                if !self
                    .table
                    .get(person)
                    .is_some_and(|r| r.decision.is_due(now))
                {
                    continue;
                }
                let mut turn = self.turn();
                if let Some(old) = turn.table.get(person) {
                    turn.recompute(person, old, old.person.version(), now);
                    swept += 1;
                }
            }
        }
        swept
    }

    /// The table, for its figures and for snapshots.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The side table, for its figures and for snapshots.
    pub const fn side_table(&self) -> &SideTable {
        &self.side_table
    }

    /// How far into the log anything in the cache reaches: the next offset of each partition.
    pub fn highest_positions(&self) -> BTreeMap<(StatusTopic, Partition), Offset> {
        self.behind.lock().applied.highest()
    }

    /// What of the log is in the cache: the next offset of each partition.
    pub fn positions(&self) -> Positions {
        self.behind.lock().applied.lowest()
    }
}

#[cfg(test)]
pub(crate) mod tests;
