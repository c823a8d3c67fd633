//! What the commands so far amount to. The same on every node at the same position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use scan_model::{SiteKind, SiteRef, Timestamp};

use crate::command::{Body, Command, Verdict};
use crate::site::Site;

/// The newest rules that this build knows.
pub const RULE_VERSION: u16 = 1;
/// Verdicts kept for retries; the bound is part of the state, so every node forgets the same ones.
const KEPT_VERDICTS: usize = 10_000;

/// The registry's state. Readers take no lock.
#[derive(Default)]
pub struct RegistryState {
    sites: papaya::HashMap<SiteRef, Arc<Site>>,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    verdicts: HashMap<u128, Verdict>,
    order: VecDeque<u128>,
    effective: Option<Timestamp>,
}

impl RegistryState {
    /// What is known of a site. Reads memory only (INV-2).
    pub fn site(&self, site: SiteRef) -> Option<Arc<Site>> {
        self.sites.pin().get(&site).cloned()
    }

    /// Every site of a kind, by id.
    pub fn sites(&self, kind: SiteKind) -> Vec<Arc<Site>> {
        let pinned = self.sites.pin();
        let mut sites: Vec<_> = pinned
            .values()
            .filter(|s| s.site.kind == kind)
            .cloned()
            .collect();
        sites.sort_by_key(|site| site.site.id);
        sites
    }

    /// Applies a command and answers its verdict; a command seen before answers the verdict of then.
    pub fn apply(&self, command: &Command) -> Verdict {
        let mut history = self.history.lock();
        if let Some(verdict) = history.verdicts.get(&command.id) {
            return *verdict;
        }
        history.effective = history.effective.max(Some(command.time));
        let verdict = if command.rule_version > RULE_VERSION {
            Verdict::UnknownRules
        } else {
            match &command.body {
                Body::ImportSites(sites) => self.import(sites),
            }
        };
        history.verdicts.insert(command.id, verdict);
        history.order.push_back(command.id);
        if history.order.len() > KEPT_VERDICTS
            && let Some(oldest) = history.order.pop_front()
        {
            history.verdicts.remove(&oldest);
        }
        verdict
    }

    /// The verdict of a command, if it is still kept.
    pub fn verdict(&self, command: u128) -> Option<Verdict> {
        self.history.lock().verdicts.get(&command).copied()
    }

    fn import(&self, sites: &[Site]) -> Verdict {
        let pinned = self.sites.pin();
        let mut replaced = 0;
        for site in sites {
            let known = pinned.insert(site.site, Arc::new(site.clone()));
            replaced += u32::from(known.is_some());
        }
        Verdict::Imported {
            added: sites.len() as u32 - replaced,
            replaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::{SiteId, VenueType};

    fn import(id: u128, name: &str) -> Command {
        let site = Site {
            site: SiteRef {
                kind: SiteKind::Venue,
                id: SiteId(1),
            },
            name: name.into(),
            region: 440_106,
            venue_type: VenueType::Mall,
            address: String::new(),
            checkpoints: vec![],
            synthetic: false,
        };
        let body = Body::ImportSites(vec![site]);
        Command {
            id,
            time: Timestamp(0),
            rule_version: RULE_VERSION,
            body,
        }
    }

    #[test]
    fn a_retried_command_gets_its_first_verdict_and_changes_nothing() {
        let state = RegistryState::default();
        let first = state.apply(&import(1, "a"));
        assert_eq!(
            first,
            Verdict::Imported {
                added: 1,
                replaced: 0
            }
        );
        assert_eq!(
            state.apply(&import(2, "b")),
            Verdict::Imported {
                added: 0,
                replaced: 1
            }
        );
        assert_eq!(state.apply(&import(1, "a")), first);
        assert_eq!(state.sites(SiteKind::Venue)[0].name, "b");
    }

    #[test]
    fn a_command_under_unknown_rules_is_refused() {
        let state = RegistryState::default();
        let mut command = import(1, "a");
        command.rule_version = RULE_VERSION + 1;
        assert_eq!(state.apply(&command), Verdict::UnknownRules);
        assert!(state.sites(SiteKind::Venue).is_empty());
    }
}
