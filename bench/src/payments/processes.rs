//! Processor time of each process.

use anyhow::Result;
use stack::Stack;

use super::shop::Side;
use crate::cpu;

/// CPU seconds of each process so far, by its name.
pub(super) async fn cpu(stack: &Stack, side: &Side<'_>) -> Result<Vec<(String, f64)>> {
    let (postgres, kafka) = cpu::servers(stack)?;
    let mut used = vec![("PostgreSQL".to_owned(), postgres), ("Kafka".to_owned(), kafka)];
    for name in side.way.processes() {
        used.push(((*name).to_owned(), cpu::own(side.shop.world.pid(name).await?)?));
    }
    used.push(("the customers (this benchmark)".to_owned(), cpu::own(std::process::id())?));
    let (busy, idle) = cpu::cores()?;
    used.extend([("all that ran".to_owned(), busy), ("nobody: idle".to_owned(), idle)]);
    Ok(used)
}

/// What was used between two such looks.
pub(super) fn since(before: &[(String, f64)], after: &[(String, f64)]) -> Vec<(String, f64)> {
    let used = after.iter().zip(before).map(|((name, after), (_, before))| (name.clone(), after - before));
    used.filter(|(_, seconds)| seconds.is_finite()).collect()
}
