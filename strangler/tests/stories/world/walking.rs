//! From stage to stage, past the gates.

use strangler::{Advance, Controller, Stage, Verdict};

use super::{World, following, settings};

impl World {
    /// Enters `following` with one payment that both replicas have, and shows that they have it.
    pub(crate) async fn follow(&self, controller: &Controller) {
        self.born("a", "first").await;
        controller.advance(&following(), "a test").await.unwrap();
        self.execute("update strangler.backfill set done_at = clock_timestamp()").await;
        assert_eq!(controller.parity("a test").await.unwrap().verdict, Verdict::Pass);
    }

    /// Enters `following`, then `shadowing`.
    pub(crate) async fn shadow(&self, controller: &Controller) {
        self.follow(controller).await;
        controller.advance(&Advance::to(Stage::Shadowing), "a test").await.unwrap();
        self.note_reads(&["equal", "mutant_caught"]).await;
    }

    /// Enters `following`, `shadowing`, then `reading` at 0 %.
    pub(crate) async fn read(&self, controller: &Controller) {
        self.shadow(controller).await;
        controller.advance(&Advance::to(Stage::Reading), "a test").await.unwrap();
        self.note_reads(&["copy"]).await;
    }

    /// From `following`, once it was walked before, back to `reading`.
    pub(crate) async fn read_again(&self, controller: &Controller) {
        for (stage, classes) in
            [(Stage::Shadowing, &["equal", "mutant_caught"][..]), (Stage::Reading, &["copy"])]
        {
            controller.advance(&Advance::to(stage), "a test").await.unwrap();
            self.note_reads(classes).await;
        }
    }

    /// Walks to a ramp, past the gates, with both feeds caught up.
    pub(crate) async fn ramp(&self, percent: i64) -> Controller {
        let controller = self.controller();
        self.read(&controller).await;
        controller.advance(&Advance::ramp(percent), "a test").await.unwrap();
        controller
    }

    /// Enters `primary` with these payments at the source, and `first`.
    pub(crate) async fn primary(&self, keys: &[&str]) -> Controller {
        let controller = self.ramp(0).await;
        for key in keys {
            self.born("a", key).await;
        }
        controller.advance(&Advance::ramp(100), "a test").await.unwrap();
        // The reverse feed has carried something.
        self.target.publish("first", 1);
        controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
        controller
    }

    /// Notes what programs of the controllers' build with traffic would have since the present stage was entered.
    pub(crate) async fn note_reads(&self, classes: &[&str]) {
        self.note_reads_of(&settings().version, classes).await;
    }

    /// As programs of another build do.
    pub(crate) async fn note_reads_of(&self, version: &str, classes: &[&str]) {
        let sql = "
            select strangler.note_reads('payments', p.since, $2, $1,
                array_fill(5000::bigint, array[cardinality($1)]), '{}', '{}', '{}', '{}')
            from strangler.read_policy('payments') p";
        sqlx::query(sql).bind(classes).bind(version).execute(&self.admin).await.unwrap();
    }
}
