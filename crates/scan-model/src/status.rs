//! Categories, colours, and the rulesets that join them (S1, S2).
//!
//! Colour is never stored: it is the ruleset in force applied to a person's active categories at the moment of the
//! lookup, so that a change of ruleset rewrites nothing.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Why a person may be a key person. Every edition's categories are kept as facts (S2).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// 确诊病例.
    Confirmed,
    /// 疑似病例.
    Suspected,
    /// 密切接触者.
    CloseContact,
    /// 集中隔离人员.
    CentralisedIsolation,
    /// 居家隔离人员.
    HomeIsolation,
    /// 潜在密切接触者 (first edition).
    PotentialCloseContact,
    /// 核酸检测阳性 (third and fourth edition).
    PositiveTest,
    /// 疫情地高风险来粤人员 (third edition).
    HighRiskArrival,
    /// 外省健康码红黄码人员 (fourth edition).
    OtherProvinceHolder,
}

impl Category {
    /// All categories, in bit order.
    pub const ALL: [Self; 9] = [
        Self::Confirmed,
        Self::Suspected,
        Self::CloseContact,
        Self::CentralisedIsolation,
        Self::HomeIsolation,
        Self::PotentialCloseContact,
        Self::PositiveTest,
        Self::HighRiskArrival,
        Self::OtherProvinceHolder,
    ];

    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Suspected => "suspected",
            Self::CloseContact => "close_contact",
            Self::CentralisedIsolation => "centralised_isolation",
            Self::HomeIsolation => "home_isolation",
            Self::PotentialCloseContact => "potential_close_contact",
            Self::PositiveTest => "positive_test",
            Self::HighRiskArrival => "high_risk_arrival",
            Self::OtherProvinceHolder => "other_province_holder",
        }
    }

    /// The category of a stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.name() == name)
    }
}

/// A set of categories, one bit each; ten bits at most in the resident record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct CategorySet(pub u16);

impl CategorySet {
    /// No category.
    pub const EMPTY: Self = Self(0);

    /// The set with this category added.
    #[must_use]
    pub const fn with(self, category: Category) -> Self {
        Self(self.0 | 1 << category as u16)
    }

    /// Whether the category is in the set.
    pub const fn contains(self, category: Category) -> bool {
        self.0 & 1 << category as u16 != 0
    }

    /// Whether no category is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The categories, in bit order.
    pub fn iter(self) -> impl Iterator<Item = Category> {
        Category::ALL
            .into_iter()
            .filter(move |category| self.contains(*category))
    }
}

impl FromIterator<Category> for CategorySet {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        categories.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// A colour: an index into the colours of the ruleset in force. Green is 0 and red is 1 in every ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Colour(pub u8);

impl Colour {
    /// Not a key person.
    pub const GREEN: Self = Self(0);
    /// A key person.
    pub const RED: Self = Self(1);
}

/// What a colour means at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColourRule {
    /// The stable name, such as `red`.
    pub name: &'static str,
    /// Whether the default procedure lets its holder pass.
    pub passes: bool,
    /// Any of these categories makes a code this colour.
    pub categories: CategorySet,
}

/// Which categories make a code which colour. The last rule that matches wins; the first is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    name: &'static str,
    colours: Vec<ColourRule>,
}

/// No ruleset has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ruleset must be one of edition-1, edition-3, edition-4")]
pub struct UnknownRuleset;

/// The five categories that every edition lists.
const COMMON: [Category; 5] = [
    Category::Confirmed,
    Category::Suspected,
    Category::CloseContact,
    Category::CentralisedIsolation,
    Category::HomeIsolation,
];

impl Ruleset {
    /// The guide's first edition (000).
    pub fn edition_1() -> Self {
        Self::red_for("edition-1", &[Category::PotentialCloseContact])
    }

    /// The guide's third edition and the Taishan notice (002, 003).
    pub fn edition_3() -> Self {
        Self::red_for(
            "edition-3",
            &[Category::PositiveTest, Category::HighRiskArrival],
        )
    }

    /// The guide's fourth edition (001), the default.
    pub fn edition_4() -> Self {
        Self::red_for(
            "edition-4",
            &[Category::PositiveTest, Category::OtherProvinceHolder],
        )
    }

    /// The ruleset of a configured name.
    pub fn by_name(name: &str) -> Result<Self, UnknownRuleset> {
        match name {
            "edition-1" => Ok(Self::edition_1()),
            "edition-3" => Ok(Self::edition_3()),
            "edition-4" => Ok(Self::edition_4()),
            _ => Err(UnknownRuleset),
        }
    }

    fn red_for(name: &'static str, more: &[Category]) -> Self {
        let red = COMMON.iter().chain(more).copied().collect();
        let green_rule = ColourRule {
            name: "green",
            passes: true,
            categories: CategorySet::EMPTY,
        };
        let red_rule = ColourRule {
            name: "red",
            passes: false,
            categories: red,
        };
        Self {
            name,
            colours: vec![green_rule, red_rule],
        }
    }

    /// The same ruleset with one more colour, decided after all others.
    #[must_use]
    pub fn with_colour(mut self, rule: ColourRule) -> Self {
        self.colours.push(rule);
        self
    }

    /// The ruleset's stable name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The colour of a person with these active categories.
    pub fn colour(&self, active: CategorySet) -> Colour {
        let last_match = self
            .colours
            .iter()
            .rposition(|rule| rule.categories.0 & active.0 != 0);
        Colour(last_match.unwrap_or(0) as u8)
    }

    /// The active categories that decide the colour: the reasons a tester and the person are shown (S3).
    pub fn reasons(&self, active: CategorySet) -> CategorySet {
        self.colours
            .get(usize::from(self.colour(active).0))
            .map_or(CategorySet::EMPTY, |rule| {
                CategorySet(rule.categories.0 & active.0)
            })
    }

    /// The rule of a colour; an index outside the ruleset reads as the default.
    pub fn rule(&self, colour: Colour) -> &ColourRule {
        self.colours
            .get(usize::from(colour.0))
            .unwrap_or(&self.colours[0])
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(category: Category) -> CategorySet {
        CategorySet::EMPTY.with(category)
    }

    #[test]
    fn s2_each_edition_reddens_its_own_categories() {
        let reds = |ruleset: Ruleset| -> Vec<Category> {
            let is_red = |c: &Category| ruleset.colour(only(*c)) == Colour::RED;
            Category::ALL.into_iter().filter(is_red).skip(5).collect()
        };
        assert_eq!(
            reds(Ruleset::edition_1()),
            [Category::PotentialCloseContact]
        );
        assert_eq!(
            reds(Ruleset::edition_3()),
            [Category::PositiveTest, Category::HighRiskArrival]
        );
        assert_eq!(
            reds(Ruleset::edition_4()),
            [Category::PositiveTest, Category::OtherProvinceHolder]
        );
    }

    #[test]
    fn s2_every_edition_reddens_the_common_five() {
        for ruleset in [
            Ruleset::edition_1(),
            Ruleset::edition_3(),
            Ruleset::edition_4(),
        ] {
            for category in COMMON {
                assert_eq!(
                    ruleset.colour(only(category)),
                    Colour::RED,
                    "{ruleset} {category:?}"
                );
            }
            assert_eq!(ruleset.colour(CategorySet::EMPTY), Colour::GREEN);
        }
    }

    #[test]
    fn s3_only_categories_of_the_ruleset_are_reasons() {
        let active = only(Category::Confirmed).with(Category::HighRiskArrival);
        let reasons = Ruleset::edition_4().reasons(active);
        assert_eq!(reasons, only(Category::Confirmed));
    }

    #[test]
    fn s1_another_colour_can_be_added() {
        let categories = only(Category::HighRiskArrival);
        let yellow = ColourRule {
            name: "yellow",
            passes: false,
            categories,
        };
        let ruleset = Ruleset::edition_4().with_colour(yellow);
        let colour = ruleset.colour(categories);
        assert_eq!(ruleset.rule(colour).name, "yellow");
    }

    #[test]
    fn names_read_back() {
        for category in Category::ALL {
            assert_eq!(Category::from_name(category.name()), Some(category));
        }
    }
}
