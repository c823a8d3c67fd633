//! What the commands so far amount to. The same on every node at the same position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use scan_model::{SiteId, SiteKind, SiteRef, Timestamp};

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
    dissolved: papaya::HashMap<SiteRef, ()>,
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

    /// Whether a grid was dissolved (G5). Reads memory only (INV-2).
    pub fn is_dissolved(&self, site: SiteRef) -> bool {
        self.dissolved.pin().contains_key(&site)
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
                Body::DissolveGrid(grid) => self.dissolve(*grid),
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
        let (mut added, mut replaced, mut dissolved) = (0, 0, 0);
        for site in sites {
            if self.is_dissolved(site.site) {
                dissolved += 1;
                continue;
            }
            match pinned.insert(site.site, Arc::new(site.clone())) {
                None => added += 1,
                Some(_) => replaced += 1,
            }
        }
        Verdict::Imported {
            added,
            replaced,
            dissolved,
        }
    }

    fn dissolve(&self, grid: SiteId) -> Verdict {
        let site = SiteRef {
            kind: SiteKind::Grid,
            id: grid,
        };
        if self.sites.pin().remove(&site).is_none() {
            return Verdict::UnknownGrid;
        }
        self.dissolved.pin().insert(site, ());
        Verdict::Dissolved
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
                replaced: 0,
                dissolved: 0
            }
        );
        assert_eq!(
            state.apply(&import(2, "b")),
            Verdict::Imported {
                added: 0,
                replaced: 1,
                dissolved: 0
            }
        );
        assert_eq!(state.apply(&import(1, "a")), first);
        assert_eq!(state.sites(SiteKind::Venue)[0].name, "b");
    }

    fn grid(id: u32) -> SiteRef {
        SiteRef {
            kind: SiteKind::Grid,
            id: SiteId(id),
        }
    }

    #[test]
    fn g5_a_dissolved_grid_is_unknown_and_its_id_is_never_given_again() {
        let state = RegistryState::default();
        let command = |id, body| Command {
            id,
            time: Timestamp(0),
            rule_version: RULE_VERSION,
            body,
        };
        let grids = |ids: &[u32]| {
            let Body::ImportSites(mut sites) = import(0, "a").body else {
                unreachable!("an import")
            };
            let made = ids.iter().map(|id| {
                let mut site = sites[0].clone();
                site.site = grid(*id);
                site
            });
            sites = made.collect();
            Body::ImportSites(sites)
        };
        state.apply(&command(1, grids(&[1, 2])));
        let dissolve = Body::DissolveGrid(SiteId(1));
        assert_eq!(
            state.apply(&command(2, dissolve.clone())),
            Verdict::Dissolved
        );
        assert_eq!(
            state.apply(&command(2, dissolve.clone())),
            Verdict::Dissolved
        );
        assert_eq!(state.apply(&command(3, dissolve)), Verdict::UnknownGrid);
        assert!(state.is_dissolved(grid(1)) && state.site(grid(1)).is_none());
        assert!(!state.is_dissolved(grid(2)) && state.site(grid(2)).is_some());
        let again = state.apply(&command(4, grids(&[1, 3])));
        assert_eq!(
            again,
            Verdict::Imported {
                added: 1,
                replaced: 0,
                dissolved: 1
            }
        );
        assert!(state.site(grid(1)).is_none() && state.site(grid(3)).is_some());
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
