//! Classes of difference between two answers. No I/O.

/// An answer that can be compared with another home's answer to the same read.
pub trait Comparable: Clone + Send + Sync + 'static {
    /// The version of the key that it shows. Answers of different versions are not compared.
    fn version(&self) -> i64;

    /// What differs from another answer of the same version. An amount or a currency is [`Difference::Money`], whatever else differs.
    fn compare(&self, other: &Self) -> Difference;

    /// The same answer with one thing wrong, once for each thing that [`Comparable::compare`] must find, at the same version. None of
    /// them: nothing shows that differences are found, and no gate passes.
    fn mutants(&self) -> Vec<Self>;

    /// It as a text, for a person who looks at a difference. Cut at 1,000 bytes. It must hold nothing that may not be stored.
    fn shown(&self) -> String;
}

/// What differs between two answers of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Nothing.
    Equal,
    /// An amount or a currency. None is tolerated.
    Money,
    /// Anything else.
    Structure,
}

/// What a comparison of one read comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The target answers what the source does.
    Equal,
    /// An amount or a currency differs at the same version.
    Money,
    /// Something else differs at the same version.
    Structure,
    /// The source differs from itself at the same version, but not in money, and the target agrees with one of the two: the read itself
    /// is not steady.
    Noise,
    /// The versions differed each time they were looked at.
    Stale,
    /// The target has no copy.
    Missing,
    /// The target did not answer.
    Error,
}

/// A comparison under way: what its bound leaves of it.
pub(super) struct Found<T> {
    pub(super) class: Class,
    pub(super) source: Option<T>,
    pub(super) target: Option<T>,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Equal, Self::Money, Self::Structure, Self::Noise, Self::Stale, Self::Missing, Self::Error];

    /// Its name, as counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Money => "money",
            Self::Structure => "structure",
            Self::Noise => "noise",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Error => "target_error",
        }
    }

    /// Whether looking again could not change it.
    pub(super) const fn is_final(self) -> bool {
        match self {
            Self::Equal | Self::Money | Self::Structure | Self::Noise => true,
            Self::Stale | Self::Missing | Self::Error => false,
        }
    }
}

impl<T> Found<T> {
    pub(super) const fn new(class: Class) -> Self {
        Self { class, source: None, target: None }
    }
}

/// What the target's answer is, beside two answers of the source. Noise excuses no difference in money.
pub(super) fn judge<T: Comparable>(sources: [&T; 2], target: &T) -> Class {
    let of_this_version = sources.into_iter().filter(|source| source.version() == target.version());
    let found: Vec<Difference> = of_this_version.map(|source| source.compare(target)).collect();
    if found.is_empty() {
        return Class::Stale;
    }
    if found.iter().all(|it| *it == Difference::Equal) {
        return Class::Equal;
    }
    if found.contains(&Difference::Money) {
        return Class::Money;
    }
    if found.contains(&Difference::Equal) { Class::Noise } else { Class::Structure }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cents, a word, a version.
    #[derive(Debug, Clone, PartialEq)]
    struct Row(i64, &'static str, i64);

    impl Comparable for Row {
        fn version(&self) -> i64 {
            self.2
        }

        fn compare(&self, other: &Self) -> Difference {
            if self.0 != other.0 {
                Difference::Money
            } else if self.1 != other.1 {
                Difference::Structure
            } else {
                Difference::Equal
            }
        }

        fn mutants(&self) -> Vec<Self> {
            vec![Row(self.0 + 1, self.1, self.2)]
        }

        fn shown(&self) -> String {
            format!("{self:?}")
        }
    }

    #[test]
    fn one_cent_is_money_even_beside_another_word() {
        let source = Row(100, "paid", 3);
        assert_eq!(judge([&source, &source], &source), Class::Equal);
        assert_eq!(judge([&source, &source], &Row(101, "paid", 3)), Class::Money);
        assert_eq!(judge([&source, &source], &Row(101, "open", 3)), Class::Money);
        assert_eq!(judge([&source, &source], &Row(100, "open", 3)), Class::Structure);
    }

    #[test]
    fn another_version_is_not_compared() {
        let (before, after) = (Row(100, "open", 3), Row(90, "paid", 4));
        assert_eq!(judge([&after, &after], &before), Class::Stale);
        assert_eq!(judge([&before, &after], &before), Class::Equal, "it was written between the two");
        assert_eq!(judge([&before, &after], &after), Class::Equal);
        assert_eq!(judge([&before, &after], &Row(91, "paid", 4)), Class::Money);
    }

    #[test]
    fn a_source_that_differs_from_itself_is_noise_only_where_the_target_agrees_with_it() {
        let (one, two) = (Row(100, "open", 3), Row(100, "paid", 3));
        assert_eq!(judge([&one, &two], &one), Class::Noise);
        assert_eq!(judge([&one, &two], &two), Class::Noise);
        assert_eq!(judge([&one, &two], &Row(101, "open", 3)), Class::Money);
        assert_eq!(judge([&one, &two], &Row(100, "gone", 3)), Class::Structure);
    }

    #[test]
    fn a_source_whose_amount_differs_from_itself_is_money_whatever_the_target_agrees_with() {
        let (one, two) = (Row(100, "paid", 3), Row(101, "paid", 3));
        for target in [&one, &two, &Row(100, "open", 3)] {
            assert_eq!(judge([&one, &two], target), Class::Money, "{target:?}");
            assert_eq!(judge([&two, &one], target), Class::Money, "{target:?}");
        }
    }

    #[test]
    fn looking_again_is_for_what_time_can_change() {
        for class in [Class::Stale, Class::Missing, Class::Error] {
            assert!(!class.is_final(), "{class:?}");
        }
    }
}
