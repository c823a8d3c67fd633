//! What answers say, in Chinese and English (C10). Stable codes are not translated.

use axum::http::header;
use http_service::Headers;
use scan_model::Category;

/// A language of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// 中文, the default.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// The language that a request asks for: the first of `Accept-Language` that is known.
    pub fn of(headers: &impl Headers) -> Self {
        let Some(asked) = headers
            .field(&header::ACCEPT_LANGUAGE)
            .and_then(|value| str::from_utf8(value).ok())
        else {
            return Self::Chinese;
        };
        asked
            .split(',')
            .find_map(|language| match language.trim().get(..2) {
                Some(tag) if tag.eq_ignore_ascii_case("zh") => Some(Self::Chinese),
                Some(tag) if tag.eq_ignore_ascii_case("en") => Some(Self::English),
                _ => None,
            })
            .unwrap_or(Self::Chinese)
    }

    const fn pick(self, chinese: &'static str, english: &'static str) -> &'static str {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }

    /// What a checker does with a red code.
    pub const fn red(self) -> &'static str {
        self.pick(
            "请勿放行,查看红码原因并按本市处置流程处理",
            "Do not admit; view the reasons and follow the city's procedure",
        )
    }

    /// What a checker does where only the name was matched.
    pub const fn name_only(self) -> &'static str {
        self.pick(
            "该人员仅经实名核验,请核对其证件",
            "Identity is name-matched only; check the document itself",
        )
    }

    /// What a checker does where this node's knowledge is old.
    pub const fn stale(self) -> &'static str {
        self.pick(
            "状态可能已过时,请稍后重试或人工核验",
            "Status may be out of date; retry shortly or check by hand",
        )
    }

    /// What a checker does with an expired code.
    pub const fn expired(self) -> &'static str {
        self.pick(
            "该码已过期,请本人重新申报健康信息",
            "The code has expired; its holder declares again to renew it",
        )
    }

    /// What a checker does with a revoked code.
    pub const fn revoked(self) -> &'static str {
        self.pick(
            "该码已作废,请出示最新的码",
            "The code has been ended; ask for a newly issued one",
        )
    }

    /// What a checker does with a forged code.
    pub const fn forged(self) -> &'static str {
        self.pick(
            "该码无法识别,请打开小程序出示本人的码",
            "The code is not genuine; ask to see the code in the app",
        )
    }

    /// What a checker does with an altered or misread code.
    pub const fn altered(self) -> &'static str {
        self.pick(
            "该码被改动或未扫描完整,请重新扫描;仍然如此则请打开小程序出示本人的码",
            "The code was altered or misread; scan again, then ask to see the code in the app",
        )
    }

    /// What a checker does where nobody is known by the document.
    pub const fn unknown(self) -> &'static str {
        self.pick(
            "未查到该证件的人员,请核对证件号码",
            "Nobody is known by this document; check the number",
        )
    }

    /// How a reason is lifted (S3).
    pub const fn guidance(self, category: Category) -> &'static str {
        match category {
            Category::Confirmed | Category::PositiveTest => self.pick(
                "治愈出院并完成随访后,由卫生健康部门解除",
                "Lifted by the health authority after recovery and follow-up",
            ),
            Category::Suspected => self.pick(
                "排除感染后,由卫生健康部门解除",
                "Lifted by the health authority once infection is ruled out",
            ),
            Category::CloseContact | Category::PotentialCloseContact => self.pick(
                "医学观察期满且核酸阴性后,由疾控中心解除",
                "Lifted by the CDC after observation with a negative test",
            ),
            Category::CentralisedIsolation | Category::HomeIsolation => self.pick(
                "隔离期满并取得解除医学观察告知书后解除",
                "Lifted with the release notice at the end of isolation",
            ),
            Category::HighRiskArrival => self.pick(
                "向所在社区报备并完成健康监测后解除",
                "Lifted after reporting to the community and health monitoring",
            ),
            Category::OtherProvinceHolder => self.pick(
                "由发码省份转绿码后自动解除",
                "Lifted by itself once the issuing province shows green",
            ),
        }
    }
}
