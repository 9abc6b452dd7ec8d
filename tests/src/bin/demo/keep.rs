//! `--keep`: everything stays up, to be looked at.

use anyhow::Result;
use chassis::Role;
use stack::Stack;
use tests::Shop;

use crate::walk::TENANTS;

/// Prints every address and tokens, and waits until Ctrl-C drops it.
pub(crate) async fn keep(shop: &Shop<'_>, stack: &Stack) -> Result<()> {
    println!("\nleft running, until Ctrl-C:");
    println!("  PostgreSQL       {}", stack.postgres_url());
    println!("  Kafka            {}   (topics {}..)", stack.kafka(), shop.world.kafka().prefix());
    for (name, listening, log) in shop.world.processes().await {
        println!(
            "  {name:<16} {}   log {}",
            listening.to_string().trim_start_matches("listening "),
            log.display()
        );
    }
    println!(
        "  merchant's token of {}:\n    {}",
        TENANTS[0],
        shop.token(TENANTS[0], &[Role::Customer, Role::Merchant])?
    );
    println!("  operator's token:\n    {}", shop.token("operations", &[Role::Operator])?);
    println!(
        "  curl -H \"authorization: Bearer TOKEN\" http://127.0.0.1:{}/v1/orders",
        shop.ports.http.number()
    );
    std::future::pending::<()>().await;
    Ok(())
}
