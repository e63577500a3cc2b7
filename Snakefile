"""microtome: glass slides in, pathology foundation models and the figures that judge them out. Phases stand in the order of the data's way."""


configfile: "config/config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/slides.smk"
include: "rules/schedule.smk"
include: "rules/pretrain.smk"
include: "rules/features.smk"
include: "rules/quality.smk"
include: "rules/benchmark.smk"
include: "rules/figures.smk"
include: "rules/comparisons.smk"
include: "rules/pictures.smk"
include: "rules/report.smk"


localrules:
    all,
    cohort,
    pretrain,
    splits,
    figure_pretraining,
    figure_convergence,
    figure_checkpoints,
    figure_ranking,
    figure_differences,
    figure_roc,
    figure_calibration,
    decisions,
    figure_balance,
    figure_overlays,
    figure_gallery,
    figure_quality,
    quality_table,
    figure_pca,
    figure_neighbours,
    overlap,
    tables,
    methods,
    report,


rule all:
    "Everything: the report holds the figures, the tables and what they were made with."
    input:
        "results/report.html",
