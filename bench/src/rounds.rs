//! Rounds of alternating measurements, and what may be concluded from them.

/// A spread over this share of the median makes a figure inconclusive.
const SPREAD_MAX: f64 = 0.25;

/// One figure, a value a round.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, values: Vec::new() }
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Largest minus smallest value, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        let most = self.values.iter().copied().fold(f64::MIN, f64::max);
        let least = self.values.iter().copied().fold(f64::MAX, f64::min);
        (most - least) / self.median()
    }

    /// This figure over another, round by round.
    pub(crate) fn over(&self, other: &Figure, name: &'static str) -> Figure {
        let values = self.values.iter().zip(&other.values).map(|(mine, theirs)| mine / theirs).collect();
        Figure { name, values }
    }

    /// One line: the median, the spread, and a warning when that is too wide to conclude from.
    pub(crate) fn line(&self) -> String {
        let verdict = if self.spread() > SPREAD_MAX { "  inconclusive: the spread is over 25 %" } else { "" };
        format!(
            "{:<44} {:>10.2}   spread {:>3.0} %{verdict}",
            self.name,
            self.median(),
            self.spread() * 100.0
        )
    }
}
