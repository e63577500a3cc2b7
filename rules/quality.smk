# How good encoders are without the tasks' labels: on one sample of tiles of the whole catalog, beside the same architectures with random weights.
# in:  results/catalog, results/tiles, results/pretrain
# out: results/quality
#
# The sample is frozen, as schedules are: slides that come later enter it when `quality.version` is raised, and not before.


rule quality_sample:
    "The tiles on which every encoder is judged: organs balanced, a limited number a slide."
    input:
        catalog=lambda wildcards: settled(
            "results/catalog/slides.parquet", "results/quality/sample.parquet", QUALITY_SAMPLE, JOBS.tile_settings_digest
        ),
    output:
        sample="results/quality/sample.parquet",
    log:
        "logs/quality/sample.log",
    benchmark:
        "benchmarks/quality/sample.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=QUALITY_SAMPLE,
        made_with=JOBS.tile_settings_digest,
        tiles="results/tiles",
    shell:
        "python -m microtome.quality_sample"
        " --catalog {input.catalog}"
        " --tiles {params.tiles}"
        " --sample {output.sample}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule quality:
    "One encoder on the sample: its features, RankMe, ODCorr and k-NN organ accuracy. `<name>@0` is a run's architecture with random weights."
    input:
        sample="results/quality/sample.parquet",
        weights=lambda wildcards: JOBS.weights(wildcards.encoder),
    output:
        features="results/quality/{encoder}/features.h5",
        measures="results/quality/{encoder}/measures.csv",
    log:
        "logs/quality/{encoder}.log",
    benchmark:
        "benchmarks/quality/{encoder}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=lambda wildcards: JOBS.encoder_settings(wildcards.encoder).json_text(),
        untrained=lambda wildcards: (
            f"--untrained {shlex.quote(JOBS.untrained(wildcards.encoder).json_text())}" if JOBS.untrained(wildcards.encoder) else ""
        ),
        weights=lambda wildcards, input: checkpoint_flag(wildcards.encoder, input.weights),
        neighbours=CONFIG.quality.neighbours,
        tiles="results/tiles",
    shell:
        "python -m microtome.quality"
        " --sample {input.sample}"
        " --tiles {params.tiles}"
        " --features {output.features}"
        " --measures {output.measures}"
        " --neighbours {params.neighbours}"
        " {params.weights}"
        " {params.untrained}"
        f" --batch {CONFIG.features.batch}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
