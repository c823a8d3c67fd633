//! What is appended to the registry's topic, and what comes of it.

use bincode::{Decode, Encode};
use scan_model::codec::{MAX_RECORD, WireRecord};
use scan_model::{SiteId, Timestamp};

use crate::site::Site;

/// Most sites in one command, so that a command stays well below the largest record.
pub const MAX_SITES: usize = 100;

/// A command. A retry carries the same id and gets the same verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Command {
    /// The client's id.
    pub id: u128,
    /// When it was given; its effective time is the maximum of all so far.
    pub time: Timestamp,
    /// The version of the rules under which it is judged.
    pub rule_version: u16,
    /// What it asks for.
    pub body: Body,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Adds these sites, or replaces what is known of them.
    ImportSites(Vec<Site>),
    /// Erases a grid and its history, for ever (G5, INV-5). Its id is never given again.
    DissolveGrid(SiteId),
}

impl WireRecord for Command {
    const VERSION: u8 = 2;

    fn version(&self) -> u8 {
        match self.body {
            Body::ImportSites(_) => 1,
            // A build that knew version 1 alone must not step over an erasure.
            Body::DissolveGrid(_) => 2,
        }
    }
}

const _: () = assert!(MAX_SITES * 600 < MAX_RECORD);

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; so many sites were new, so many replaced, so many left out.
    Imported {
        /// New sites.
        added: u32,
        /// Sites that were known already.
        replaced: u32,
        /// Grids that were dissolved: their ids are never given again.
        dissolved: u32,
    },
    /// The grid is forgotten, and its history is being erased.
    Dissolved,
    /// Refused: no such grid, or one that was dissolved before.
    UnknownGrid,
    /// Refused as a whole: judged under rules that this build does not know.
    UnknownRules,
}
