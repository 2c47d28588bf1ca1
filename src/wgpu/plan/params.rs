//! What a kernel is told beside its buffers.

use bytemuck::{Pod, Zeroable};

/// The uniform of every kernel: the twin of the struct of that name in `shaders/lib/params.wgsl`, which says what the
/// fields mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) workgroups: u32,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) inner: u32,
    pub(crate) row_stride: u32,
    pub(crate) len: u32,
    pub(crate) team: u32,
    pub(crate) steps: u32,
    pub(crate) slabs: u32,
    pub(crate) record: u32,
    pub(crate) dbeta_at: u32,
    pub(crate) dalpha_at: u32,
    pub(crate) dshift_at: u32,
    pub(crate) chunks: u32,
    pub(crate) flags: u32,
    pub(crate) eps: f32,
    pub(crate) x_start: u32,
    pub(crate) dy_start: u32,
    pub(crate) out_start: u32,
    pub(crate) gamma_start: u32,
    pub(crate) beta_start: u32,
    pub(crate) alpha_start: u32,
    pub(crate) shift_start: u32,
    pub(crate) mean_start: u32,
    pub(crate) rstd_start: u32,
    pub(crate) sums_start: u32,
    pub(crate) dgamma_start: u32,
    pub(crate) dbeta_start: u32,
    pub(crate) dalpha_start: u32,
    pub(crate) dshift_start: u32,
    pub(crate) largest_rstd: f32,
    pub(crate) least_squares: f32,
    pub(crate) gamma_offset: f32,
    pub(crate) addend_start: u32,
    pub(crate) residual_start: u32,
    pub(crate) dsum_start: u32,
    pub(crate) heads: u32,
    pub(crate) head_stride: u32,
    pub(crate) y_row_stride: u32,
    pub(crate) y_head_stride: u32,
    pub(crate) first_head: u32,
    pub(crate) group_rows: u32,
    pub(crate) group_chunks: u32,
    pub(crate) groups: u32,
    pub(crate) scale_start: u32,
}

#[cfg(test)]
mod tests {
    /// The fields of a struct in a text, in their order.
    fn fields<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
        let body = text.split(head).nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let lines = body.lines().filter(|line| !line.trim().starts_with("//"));
        lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.trim().trim_start_matches("pub(crate) "))
            .collect()
    }

    #[test]
    fn both_structs_have_the_same_fields() {
        let rust = fields(include_str!("params.rs"), "struct Params {");
        let wgsl = fields(include_str!("../../../shaders/lib/params.wgsl"), "struct Params {");
        assert_eq!(rust.len() * 4, size_of::<super::Params>());
        assert_eq!(rust, wgsl);
    }
}
