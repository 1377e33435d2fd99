use super::super::report::Status;
use super::*;

fn rules(xml: &str) -> Lifecycle {
    de::from_str(&format!(
        "<LifecycleConfiguration>{xml}</LifecycleConfiguration>"
    ))
    .unwrap()
}

#[test]
fn rules_that_reach_objects_of_the_store_are_found() {
    let check = |prefix: &str, xml: &str, expected: Status| {
        let check = judge_rules(&rules(xml), prefix);
        assert_eq!(check.status, expected, "{xml}: {check}");
    };
    let rule = |filter: &str, action: &str| {
        format!("<Rule><ID>r</ID>{filter}<Status>Enabled</Status>{action}</Rule>")
    };
    let expire = "<Expiration><Days>30</Days></Expiration>";
    let of = |prefix: &str| format!("<Filter><Prefix>{prefix}</Prefix></Filter>");
    check("db", "", Status::Ok);
    check("db", &rule("<Filter/>", expire), Status::Error);
    check("", &rule("<Filter/>", expire), Status::Error);
    check("db", &rule("<Prefix>d</Prefix>", expire), Status::Error);
    check("db", &rule(&of("db/data/default"), expire), Status::Error);
    check("db", &rule(&of("db/wal"), expire), Status::Error);
    check("db", &rule(&of("db/doctor/"), expire), Status::Ok);
    check("db", &rule(&of("db2/"), expire), Status::Ok);
    check("db", &rule(&of("db/database/"), expire), Status::Ok);
    check("db", &rule(&of("db/cluster/"), expire), Status::Error);
    check("db", &rule(&of("logs/"), expire), Status::Ok);
    check("", &rule(&of("logs/"), expire), Status::Ok);
    check("", &rule(&of("data/"), expire), Status::Error);
    let sized = "<Filter><And><Prefix>db/</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan>\
                 </And></Filter>";
    check("db", &rule(sized, expire), Status::Error);
    let tagged = "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>";
    check("db", &rule(tagged, expire), Status::Ok);
    let disabled = rule("<Filter/>", expire).replace("Enabled", "Disabled");
    check("db", &disabled, Status::Ok);
    let markers = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>\
                   </Expiration>";
    check("db", &rule("<Filter/>", markers), Status::Ok);
    let to = |class: &str| {
        let action =
            format!("<Transition><Days>30</Days><StorageClass>{class}</StorageClass></Transition>");
        rule("<Filter/>", &action)
    };
    check("db", &to("STANDARD_IA"), Status::Warning);
    check("db", &to("GLACIER_IR"), Status::Warning);
    check("db", &to("DEEP_ARCHIVE"), Status::Error);
    let both = format!("{}{}", to("STANDARD_IA"), to("GLACIER"));
    check("db", &both, Status::Error);
    let last = format!(
        "{}{}",
        rule(&of("logs/"), expire),
        rule("<Filter/>", expire)
    );
    check("db", &last, Status::Error);
}

#[test]
fn versioning_without_a_rule_costs() {
    let check = |status: &str, xml: &str, expected: Status| {
        let versioning: Versioning = de::from_str(&format!(
            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{status}\
             </VersioningConfiguration>"
        ))
        .unwrap();
        let check = judge_versioning(&versioning, Some(&rules(xml)), "db");
        assert_eq!(check.status, expected, "{status} {xml}: {check}");
    };
    let ends = "<Rule><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
                <NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays>\
                </NoncurrentVersionExpiration></Rule>";
    check("", "", Status::Ok);
    check("<Status>Enabled</Status>", "", Status::Warning);
    check("<Status>Suspended</Status>", "", Status::Warning);
    check("<Status>Enabled</Status>", ends, Status::Ok);
}

#[test]
fn answers_that_tell_nothing_say_why() {
    let check = |status: u16, body: &'static str, expected: Result<bool, &str>| {
        let answer = BucketAnswer {
            status,
            date: None,
            body: body.into(),
        };
        let told = answer_of::<Versioning>(&Ok(answer));
        match (told, expected) {
            (Ok(told), Ok(expected)) => assert_eq!(told.is_some(), expected, "{body}"),
            (Err(told), Err(expected)) => assert!(told.contains(expected), "{told}"),
            (told, expected) => panic!("{status} {body}: {told:?}, not {expected:?}"),
        }
    };
    check(200, "<VersioningConfiguration/>", Ok(true));
    check(200, " ", Ok(false));
    check(
        404,
        "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>",
        Ok(false),
    );
    check(404, "<Error><Code>NoSuchBucket</Code></Error>", Err("404"));
    check(403, "", Err("may not ask"));
    check(501, "", Err("501"));
    check(
        200,
        "<VersioningConfiguration><Status>",
        Err("not understood"),
    );
    let away = StoreError::Unavailable {
        key: "versioning".to_owned(),
        reason: "no route".to_owned(),
    };
    let told = answer_of::<Versioning>(&Err(away)).unwrap_err();
    assert!(told.contains("no route"), "{told}");
}

#[test]
fn what_is_not_known_can_be_looked_up() {
    let bucket = Bucket::open("s3://my-bucket/p", &Default::default()).unwrap();
    let check = unknown(&bucket, "versioning", "versioning", "403");
    assert_eq!(check.status, Status::Unknown);
    let advice = "aws s3api get-bucket-versioning --bucket my-bucket";
    assert!(check.to_string().ends_with(advice), "{check}");
}

#[test]
fn only_what_is_sure_is_a_difference_of_clocks() {
    let check = |store_ms, resolution_ms, expected_ms: i64, status| {
        // The machine asked at 1000 s, and had the answer a second later.
        let check = clock(store_ms, resolution_ms, 1_000_000, 1_001_000);
        assert_eq!(
            check.figures["ahead_ms"], expected_ms,
            "{store_ms}: {check}"
        );
        assert_eq!(check.status, status, "{store_ms}: {check}");
    };
    check(1_000_500, 0, 0, Status::Ok);
    check(999_000, 1000, 0, Status::Ok);
    check(1_001_000, 0, 0, Status::Ok);
    check(998_500, 0, 1_500, Status::Ok);
    check(990_000, 1000, 9_000, Status::Warning);
    check(1_011_000, 1000, -10_000, Status::Warning);
    check(1_000_000 - 1_000_000, 1000, 999_000, Status::Error);
    check(i64::MAX, 1000, 1_001_000 - i64::MAX, Status::Error);
    check(i64::MIN, 0, i64::MAX, Status::Error);
}
