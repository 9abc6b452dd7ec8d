//! Where a controller can die, by name, so that tests can kill it exactly there.
//!
//! Each is behind a step that is durable, or behind an answer of the target's that is not noted yet: the next controller finds
//! that step in the tables, or takes it again. A build with debug assertions can be told to abort at a point; in a release build
//! there is nothing to tell.

use std::{fmt, str::FromStr};

/// What has just been done when the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A batch of existing keys has owner rows, and the place is noted.
    Seeded,
    /// The snapshots of a page are published; the place is not noted.
    PagePublished,
    /// The place of a page is noted.
    PageNoted,
    /// Keys are on their way to the target, with their offers.
    Fenced,
    /// The target is ready for some of them; nothing is decided.
    ReadyAnswered,
    /// Some keys are the target's; it has not been told.
    Decided,
    /// The target has taken a grant; that is not noted.
    GrantAnswered,
    /// It is noted that the target has taken a grant.
    GrantNoted,
    /// Keys are to come back; the target has not been told.
    RecallBegun,
    /// The target has answered a recall; why some stay is not noted.
    RecallAnswered,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 10] = [
        Point::Seeded,
        Point::PagePublished,
        Point::PageNoted,
        Point::Fenced,
        Point::ReadyAnswered,
        Point::Decided,
        Point::GrantAnswered,
        Point::GrantNoted,
        Point::RecallBegun,
        Point::RecallAnswered,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Point::Seeded => "controller.seeded",
            Point::PagePublished => "controller.page_published",
            Point::PageNoted => "controller.page_noted",
            Point::Fenced => "controller.fenced",
            Point::ReadyAnswered => "controller.ready_answered",
            Point::Decided => "controller.decided",
            Point::GrantAnswered => "controller.grant_answered",
            Point::GrantNoted => "controller.grant_noted",
            Point::RecallBegun => "controller.recall_begun",
            Point::RecallAnswered => "controller.recall_answered",
        }
    }
}

/// Whether, and where, the controller aborts its process. Without debug assertions it never does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crash {
    #[cfg(debug_assertions)]
    at: Option<Point>,
}

/// The name of no point, or any name in a release build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a crash point of this build")]
pub struct NoSuchPoint;

impl Crash {
    /// Nowhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// At the point of this name.
    ///
    /// # Errors
    /// [`NoSuchPoint`]; a release build has no points.
    #[cfg(debug_assertions)]
    pub fn at(name: &str) -> Result<Self, NoSuchPoint> {
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        Ok(Self { at: Some(point.ok_or(NoSuchPoint)?) })
    }

    /// At the point of this name.
    ///
    /// # Errors
    /// [`NoSuchPoint`]; a release build has no points.
    #[cfg(not(debug_assertions))]
    pub fn at(_name: &str) -> Result<Self, NoSuchPoint> {
        Err(NoSuchPoint)
    }

    /// Aborts the process (SIGABRT) if this is where it shall.
    pub(crate) fn point(self, point: Point) {
        #[cfg(debug_assertions)]
        if self.at == Some(point) {
            // Not through the log: an abort waits for no writer.
            eprintln!("crash point {point}");
            std::process::abort();
        }
        #[cfg(not(debug_assertions))]
        let _ = point;
    }
}

impl FromStr for Crash {
    type Err = NoSuchPoint;

    fn from_str(name: &str) -> Result<Self, NoSuchPoint> {
        Self::at(name)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_variant_is_among_all_points() {
        let (_, body) = include_str!("crash.rs").split_once("pub enum Point {").unwrap();
        let (body, _) = body.split_once('}').unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let variants: Vec<&str> = lines.filter_map(|line| line.strip_suffix(',')).collect();
        assert_eq!(variants, Point::ALL.map(|point| format!("{point:?}")));
    }

    #[test]
    fn every_point_has_a_name_of_its_own_and_is_found_by_it() {
        let names: HashSet<_> = Point::ALL.map(Point::name).into();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            assert_eq!(Crash::at(point.name()).is_ok(), cfg!(debug_assertions), "{point}");
        }
        assert_eq!(Crash::at("controller.elsewhere").unwrap_err(), NoSuchPoint);
        // Elsewhere, nothing happens.
        Crash::at("controller.fenced").unwrap_or_default().point(Point::Decided);
        Crash::none().point(Point::Fenced);
    }
}
