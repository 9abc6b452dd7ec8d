//! What the target found when it decided itself, in the shadow of the source.

/// How the target's decision compares with the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionClass {
    /// They are the same.
    Equal,
    /// An amount differs. No tolerance.
    Money,
    /// Something else differs.
    Structure,
    /// They could not be compared: the record has no command, or the copy was not at the version before. Never counts as equal.
    Undecidable,
}

/// How many decisions came to one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionCount {
    /// How they compare.
    pub class: DecisionClass,
    /// What they came to, in the domain's words, such as `declined`.
    pub outcome: String,
    /// How many.
    pub count: u64,
}

/// A decision made wrong on purpose, which a comparison that sees anything must tell from what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutantCount {
    /// Its name.
    pub name: String,
    /// How often it differed from what came.
    pub caught: u64,
    /// How often it did not.
    pub missed: u64,
    /// The outcomes that it can run on, in the domain's words.
    pub outcomes: Vec<String>,
}

/// A decision that was not equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionSample {
    /// Of which key.
    pub key: String,
    /// By which record of it.
    pub version: i64,
    /// How it compares.
    pub class: DecisionClass,
    /// What differs, at most 400 bytes.
    pub text: String,
}

/// Whether the target could have an effect in the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderAccess {
    /// No key is its own, and without one it makes no client of its provider.
    Denied,
    /// It could.
    Usable,
}

/// What was found since a time, by one version of the target's program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The version.
    pub version: String,
    /// Counts by class and outcome.
    pub counts: Vec<DecisionCount>,
    /// All mutants that the version knows, those that never ran too.
    pub mutants: Vec<MutantCount>,
    /// At most 100, the latest first.
    pub samples: Vec<DecisionSample>,
    /// `None`: the target does not say.
    pub provider: Option<ProviderAccess>,
}

impl DecisionClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Equal, Self::Money, Self::Structure, Self::Undecidable];

    /// Its name, as on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Money => "money",
            Self::Structure => "structure",
            Self::Undecidable => "undecidable",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl Decisions {
    /// How many of a class.
    pub(crate) fn of(&self, class: DecisionClass) -> u64 {
        let of = self.counts.iter().filter(|count| count.class == class);
        of.fold(0, |sum, count| sum.saturating_add(count.count))
    }

    /// How many were compared, whatever came of it.
    pub(crate) fn compared(&self) -> u64 {
        let classes = [DecisionClass::Equal, DecisionClass::Money, DecisionClass::Structure];
        classes.into_iter().fold(0, |sum, class| sum.saturating_add(self.of(class)))
    }

    /// Whether a decision of this outcome was compared.
    pub(crate) fn covers(&self, outcome: &str) -> bool {
        self.counts.iter().any(|count| {
            count.outcome == outcome && count.class != DecisionClass::Undecidable && count.count > 0
        })
    }
}
