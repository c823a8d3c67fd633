//! Brings people, places and facts in over HTTP, as feeds would send them.

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::Timestamp;
use serde_json::{Value, json};

use crate::client::Client;
use crate::population::Population;
use crate::profile::Profile;
use crate::world::World;

/// Lines sent at once.
const BATCH: usize = 2000;

/// Who and what is there to scan.
pub struct Setting {
    /// Places.
    pub world: World,
    /// A code of each person.
    pub codes: Vec<String>,
    /// The id of each person.
    pub persons: Vec<String>,
    /// How many were made red.
    pub red: usize,
}

/// Enrols people, imports places, issues codes and sets some people red; `progress` is told what is done.
pub async fn set_up(
    feed: &mut Client,
    seed: u64,
    profile: &Profile,
    people: u32,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Setting> {
    let world = World::new(seed, profile, people);
    import(feed, "/v1/venues:import", &world.venue_forms(), |_, _| {}).await?;
    import(
        feed,
        "/v1/grids:import",
        &World::site_forms(&world.grids),
        |_, _| {},
    )
    .await?;
    import(
        feed,
        "/v1/compounds:import",
        &World::site_forms(&world.compounds),
        |_, _| {},
    )
    .await?;
    let year = Timestamp::now().shanghai_year() as u16;
    let mut population = Population::new(seed, year)?;
    let forms: Vec<Value> = (0..people).map(|_| population.draw().enrolment()).collect();
    let total = forms.len();
    let results = import(feed, "/v1/persons:import", &forms, |done, _| {
        progress("people", done, total)
    })
    .await?;
    let mut persons: Vec<String> = results
        .iter()
        .filter_map(|result| result["person"].as_str().map(str::to_owned))
        .collect();
    // Two draws may by chance be one document.
    persons.sort_unstable();
    persons.dedup();
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xC0DE);
    let requests: Vec<Value> = persons
        .iter()
        .map(|person| {
            let form = if random.random_bool(profile.paper_share) {
                "paper"
            } else {
                "app"
            };
            json!({ "person": person, "form": form })
        })
        .collect();
    let results = import(feed, "/v1/codes", &requests, |_, _| {}).await?;
    let codes: Vec<String> = results
        .iter()
        .filter_map(|result| result["code"].as_str().map(str::to_owned))
        .collect();
    let categories = [
        "close_contact",
        "home_isolation",
        "positive_test",
        "other_province_holder",
    ];
    let facts: Vec<Value> = persons
        .iter()
        .filter(|_| random.random_bool(profile.red_rate))
        .enumerate()
        .map(|(index, person)| {
            json!({
                "person": person,
                "category": categories[index % categories.len()],
                "source": "synthetic-cdc",
                "reference": format!("synthetic-{index}"),
                "effective": "2026-01-01T00:00:00+08:00",
            })
        })
        .collect();
    import(feed, "/v1/facts:import", &facts, |_, _| {}).await?;
    Ok(Setting {
        world,
        codes,
        persons,
        red: facts.len(),
    })
}

/// Sends lines in batches and answers each line's result; any refusal is an error that shows it.
pub async fn import(
    client: &mut Client,
    path: &str,
    lines: &[Value],
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Value>> {
    let mut results = Vec::with_capacity(lines.len());
    for batch in lines.chunks(BATCH) {
        let body: Vec<String> = batch.iter().map(Value::to_string).collect();
        let answer = client
            .post(path, "application/x-ndjson", body.join("\n").into())
            .await
            .with_context(|| format!("POST {path}"))?;
        if answer.status != 200 {
            bail!("POST {path} answered {}: {}", answer.status, answer.text());
        }
        for line in answer.text().lines() {
            let mut result: Value = serde_json::from_str(line)?;
            if result.get("problem").is_some() {
                bail!("POST {path} refused an item: {line}");
            }
            results.push(result["result"].take());
        }
        progress(results.len(), lines.len());
    }
    Ok(results)
}
