//! Kinds of norm in configuration files.

use dyt_candle::{Channels, DEFAULT_ALPHA, Gamma, NormKind, Position, Std};

#[test]
fn kinds_are_read_from_configurations_and_written() {
    let gemma = NormKind::rms_norm().with_gamma(Gamma::OnePlusWeight);
    let unbiased = NormKind::LayerNorm { eps: 1e-6, std: Std::Unbiased, gamma: Gamma::Weight };
    for (text, kind) in [
        (r#"{"layer_norm": {"eps": 1e-12}}"#, NormKind::layer_norm().with_eps(1e-12)),
        (r#"{"layer_norm": {"eps": 1e-6, "std": "unbiased"}}"#, unbiased),
        (r#"{"rms_norm": {"eps": 1e-6, "gamma": "one_plus_weight"}}"#, gemma),
        (r#"{"dyt": {}}"#, NormKind::DynamicTanh { alpha: DEFAULT_ALPHA }),
        (r#"{"derf": {"alpha": 0.8}}"#, NormKind::derf().with_alpha(0.8)),
    ] {
        assert_eq!(serde_json::from_str::<NormKind>(text).unwrap(), kind, "{text}");
        let written = serde_json::to_string(&kind).unwrap();
        assert_eq!(serde_json::from_str::<NormKind>(&written).unwrap(), kind, "{written}");
    }
    // Neither is an eps made up nor a name overlooked.
    for text in
        [r#"{"layer_norm": {}}"#, r#"{"rms_norm": {}}"#, r#"{"dyt": {"aplha": 1.0}}"#, r#"{"norm": {}}"#]
    {
        assert!(serde_json::from_str::<NormKind>(text).is_err(), "{text}");
    }
}

#[test]
fn the_other_options_are_read_too() {
    assert_eq!(serde_json::from_str::<Channels>(r#""first""#).unwrap(), Channels::First);
    assert_eq!(serde_json::from_str::<Gamma>(r#""weight""#).unwrap(), Gamma::Weight);
    assert_eq!(serde_json::from_str::<Position>(r#""attention""#).unwrap(), Position::Attention);
}
