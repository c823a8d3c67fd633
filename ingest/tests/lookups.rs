//! What a checker sees (C1, C10, S1–S6, Y1), and what a lookup by document needs (Y5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use axum::http::Method;
use scan_model::{Category, PersonId, Ruleset};
use serde_json::{Value, json};
use support::refusals::JSON;
use support::{NUMBER, OTHER_NUMBER, PHONE, World, document, field_and_rule, refusal};

async fn seen(world: &World, language: &str) -> Value {
    let reply = world.look_up(&world.code().await, language).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

#[tokio::test]
async fn y1_a_green_code_shows_masks_and_nothing_to_do() {
    let world = World::start().await;
    let mut answer = seen(&world, "en").await;
    let age = answer
        .as_object_mut()
        .unwrap()
        .remove("knowledge_age_ms")
        .unwrap();
    assert!(age.as_i64().unwrap() < 10_000, "{age}");
    assert_eq!(
        answer,
        json!({"outcome": "green", "colour": "green", "passes": true, "name": "欧***",
               "phone": "+86 138****5678", "reasons": [], "verification": "face_checked",
               "check_document": false, "scheme": "yuekang", "form": "app",
               "status_version": 1, "ruleset": "edition-4"})
    );
}

#[tokio::test]
async fn y1_masks_follow_the_name_and_phone_of_the_newest_enrolment() {
    let world = World::start().await;
    for (name, phone, shown_name, shown_phone) in [
        ("张伟", Some(PHONE), "张*", json!("+86 138****5678")),
        (
            "anne-marie smith",
            Some("+853 6612 3456"),
            "A***",
            json!("+853 66****56"),
        ),
        ("丑", None, "*", Value::Null),
    ] {
        world.enrol(NUMBER, name, phone).await;
        let answer = seen(&world, "en").await;
        assert_eq!(
            (&answer["name"], &answer["phone"]),
            (&json!(shown_name), &shown_phone)
        );
    }
}

#[tokio::test]
async fn s3_a_red_code_shows_every_reason_with_guidance_in_the_asked_language() {
    let world = World::start().await;
    world.redden("confirmed").await;
    world.redden("home_isolation").await;
    for (asked, confirmed, isolated, step) in [
        (
            "en",
            "Lifted by the health authority after recovery and follow-up",
            "Lifted with the release notice at the end of isolation",
            "Do not admit; view the reasons and follow the city's procedure",
        ),
        (
            "zh",
            "治愈出院并完成随访后,由卫生健康部门解除",
            "隔离期满并取得解除医学观察告知书后解除",
            "请勿放行,查看红码原因并按本市处置流程处理",
        ),
    ] {
        let answer = seen(&world, asked).await;
        assert_eq!(
            (&answer["outcome"], &answer["passes"]),
            (&json!("red"), &json!(false))
        );
        assert_eq!(
            answer["reasons"],
            json!([{"category": "confirmed", "guidance": confirmed},
                   {"category": "home_isolation", "guidance": isolated}])
        );
        assert_eq!(answer["next_step"], step);
    }
    for (header, chinese) in [
        ("en-GB,zh;q=0.5", false),
        ("fr, zh-CN", true),
        ("fr", true),
        ("", true),
        ("EN", false),
    ] {
        let answer = seen(&world, header).await;
        assert_eq!(
            answer["next_step"].as_str().unwrap().is_ascii(),
            !chinese,
            "{header}"
        );
    }
}

#[tokio::test]
async fn s2_each_ruleset_reddens_its_own_categories() {
    for category in Category::ALL {
        let world = World::start().await;
        world.redden(category.name()).await;
        for ruleset in [
            Ruleset::edition_1(),
            Ruleset::edition_3(),
            Ruleset::edition_4(),
        ] {
            let name = ruleset.name();
            let is_red =
                ruleset.colour([category].into_iter().collect()) == scan_model::Colour::RED;
            world.ingest.ruleset.store(Arc::new(ruleset));
            let answer = seen(&world, "en").await;
            assert_eq!(answer["ruleset"], name);
            assert_eq!(
                answer["colour"],
                if is_red { "red" } else { "green" },
                "{name} {category:?}"
            );
            assert_eq!(
                answer["reasons"].as_array().unwrap().len(),
                usize::from(is_red)
            );
        }
    }
}

#[tokio::test]
async fn p2_a_name_matched_identity_asks_for_the_document() {
    let world = World::start().await;
    let passport = json!({"kind": "passport", "number": "E12345678", "issuer": "SGP"});
    let person =
        json!({"document": passport, "name": "TAN SAMPLE", "sex": "female", "birth_year": 1985});
    world.done("identity_service", "/v1/persons", &person).await;
    let issued = world
        .done(
            "identity_service",
            "/v1/codes",
            &json!({"document": passport}),
        )
        .await;
    let reply = world.look_up(issued["code"].as_str().unwrap(), "en").await;
    let answer = reply.json();
    assert_eq!(
        (&answer["outcome"], &answer["colour"]),
        (&json!("name_only"), &json!("green"))
    );
    assert_eq!(answer["verification"], "name_matched");
    assert_eq!(answer["check_document"], true);
    assert_eq!(
        answer["next_step"],
        "Identity is name-matched only; check the document itself"
    );
    assert_eq!(answer["name"], "T***");
}

#[tokio::test]
async fn s6_old_knowledge_makes_a_green_answer_stale_and_never_a_red_one_green() {
    let world = World::configured(|config| config.stale_after_ms = -1).await;
    let answer = seen(&world, "en").await;
    assert_eq!(
        (&answer["outcome"], &answer["colour"]),
        (&json!("stale"), &json!("green"))
    );
    assert_eq!(
        answer["next_step"],
        "Status may be out of date; retry shortly or check by hand"
    );
    world.redden("confirmed").await;
    assert_eq!(seen(&world, "en").await["outcome"], "red");
}

#[tokio::test]
async fn s6_a_node_that_says_it_has_started_knows_the_present() {
    for _ in 0..5 {
        let world = World::start().await;
        let ready = world.get("tester", "/readyz").await.json();
        assert!(
            ready["knowledge_age_ms"].as_i64().unwrap() < 5000,
            "{ready}"
        );
    }
}

#[tokio::test]
async fn s6_the_status_version_rises_by_one_with_each_change() {
    let world = World::start().await;
    let version = async || seen(&world, "en").await["status_version"].as_u64().unwrap();
    assert_eq!(version().await, 1);
    world.redden("confirmed").await;
    assert_eq!(version().await, 2);
    let person = world.person.to_string();
    let fact = |category: &str| json!({"person": person, "category": category, "source": "cdc", "reference": "2"});
    let taken = world
        .done(
            "health_feed",
            "/v1/facts",
            &json!([fact("suspected"), fact("positive_test")]),
        )
        .await;
    assert_eq!(taken["results"][1]["result"]["change"], 4);
    assert_eq!(version().await, 4);
    let mut withdrawn = fact("suspected");
    withdrawn["withdrawn"] = json!(true);
    world.done("health_feed", "/v1/facts", &withdrawn).await;
    assert_eq!(version().await, 5);
    world.enrol(NUMBER, "新名字", Some(PHONE)).await;
    assert_eq!(version().await, 6);
    world.enrol(NUMBER, "新名字", Some(PHONE)).await;
    assert_eq!(
        version().await,
        6,
        "an enrolment that changes nothing is no change"
    );
    world
        .done(
            "identity_service",
            "/v1/codes:revoke",
            &json!({"person": person}),
        )
        .await;
    assert_eq!(version().await, 7);
}

#[tokio::test]
async fn s4_a_withdrawn_fact_turns_the_code_green_and_its_history_stays() {
    let world = World::start().await;
    world.redden("confirmed").await;
    let withdrawal = json!({"person": world.person.to_string(), "category": "confirmed", "source": "cdc",
                            "reference": "1", "withdrawn": true, "note": "mistaken identity"});
    world.done("health_feed", "/v1/facts", &withdrawal).await;
    assert_eq!(seen(&world, "en").await["outcome"], "green");
    assert_eq!(world.count("fact-history").await, 2);
}

#[tokio::test]
async fn y5_a_lookup_by_document_needs_the_right_and_is_audited() {
    let world = World::start().await;
    let asked = json!({"document": document(NUMBER)});
    let refused = world.post("tester", "/v1/lookups", &asked).await;
    assert_eq!(refused.problem(), refusal(403, "", "look_up_document"));
    assert_eq!(world.count("audit").await, 0);
    let answer = world.done("everything", "/v1/lookups", &asked).await;
    assert_eq!(
        (&answer["outcome"], &answer["name"]),
        (&json!("green"), &json!("欧***"))
    );
    assert!(answer.get("scheme").is_none());
    let unknown = json!({"document": document(OTHER_NUMBER)});
    assert_eq!(
        world
            .post("everything", "/v1/lookups", &unknown)
            .await
            .status,
        422
    );
    let entries: Vec<Value> = world
        .values("audit")
        .await
        .iter()
        .map(|v| serde_json::from_slice(v).unwrap())
        .collect();
    assert_eq!(
        entries.len(),
        2,
        "a lookup that finds nobody is audited too"
    );
    assert_eq!(entries[0]["action"], "look_up_document");
    assert_eq!(entries[0]["caller"], "everything");
    assert_eq!(
        PersonId(entries[0]["person"].as_u64().unwrap()),
        world.person
    );
    let text = serde_json::to_string(&entries).unwrap();
    assert!(!text.contains(NUMBER) && !text.contains(OTHER_NUMBER));
}

#[tokio::test]
async fn c10_an_unknown_document_is_told_from_a_forged_code() {
    let world = World::start().await;
    let asked = json!({"document": document(OTHER_NUMBER)}).to_string();
    for (language, step) in [
        ("en", "Nobody is known by this document; check the number"),
        ("zh", "未查到该证件的人员,请核对证件号码"),
    ] {
        let headers = [JSON, ("accept-language", language)];
        let reply = world
            .call(
                Method::POST,
                Some("everything"),
                "/v1/lookups",
                &headers,
                asked.clone(),
            )
            .await;
        assert_eq!(reply.problem(), refusal(422, "document", "known"));
        assert_eq!(
            reply.json()["type"],
            "urn:tongxing:problem:unknown-reference"
        );
        assert_eq!(reply.json()["next_step"], step);
    }
    let foreign = scan_model::CodeKeys::new(&[(9, [9; 32])].into()).unwrap();
    let forged = foreign.seal(&scan_model::CodePayload {
        person: world.person,
        issued_second: 1,
        scheme: scan_model::Scheme::Yuekang,
        form: scan_model::CodeForm::App,
    });
    let reply = world.look_up(&forged, "en").await;
    assert_eq!(reply.problem(), refusal(422, "code", "forged"));
    assert_eq!(
        reply.json()["next_step"],
        "The code is not genuine; ask to see the code in the app"
    );
}

#[tokio::test]
async fn c1_many_codes_are_answered_in_order_each_by_itself() {
    let world = World::start().await;
    let code = world.code().await;
    let codes = [code.as_str(), "x", &code, "AQAAAAAAAAAAAAAAAAAAAAA"];
    let answer = world
        .post("tester", "/v1/lookups", &json!({"codes": codes}))
        .await
        .json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(2), &json!(2))
    );
    let results = answer["results"].as_array().unwrap();
    for (index, (result, rule)) in results
        .iter()
        .zip(["", "malformed", "", "altered"])
        .enumerate()
    {
        assert_eq!(result["index"], index);
        if rule.is_empty() {
            assert_eq!(
                (&result["status"], &result["result"]["outcome"]),
                (&json!(200), &json!("green"))
            );
        } else {
            assert_eq!(
                field_and_rule(&result["problem"]),
                refusal(422, "code", rule)
            );
        }
    }
    let most = json!({"codes": vec![code.as_str(); 1000]});
    assert_eq!(
        world.done("tester", "/v1/lookups", &most).await["accepted"],
        1000
    );
    let refused = world.post("operator", "/v1/lookups", &most).await;
    assert_eq!(refused.problem(), refusal(403, "", "look_up_code"));
    for body in [json!([{"codes": []}]), json!([])] {
        assert_eq!(
            world.post("tester", "/v1/lookups", &body).await.problem().0,
            400
        );
    }
    let both = json!({"codes": [], "document": document(NUMBER)});
    assert_eq!(
        world
            .post("everything", "/v1/lookups", &both)
            .await
            .problem(),
        refusal(422, "codes", "exactly_one")
    );
}
