# From the slide table and the slides to tiles on disk, with every slide accounted for.
# in:  the slide table, the slides
# out: results/cohort, results/tissue, results/tiles, results/catalog

NAMED = "results/catalog/named.csv"  # kept from run to run, so no output, which Snakemake removes when a job fails


rule cohort:
    "Which slides are used, in which shard each lives, how many fell out and why."
    input:
        slides_table=CONFIG.slides,
        patients=CONFIG.cohort.exclude_patients or [],
        code=code("cohort", "ever_named"),
    output:
        slides="results/cohort/slides.parquet",
        excluded="results/cohort/excluded.csv",
        attrition="results/cohort/attrition.csv",
    log:
        "logs/cohort/cohort.log",
    benchmark:
        "benchmarks/cohort/cohort.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.cohort_settings().json_text(),
        named=NAMED,
    shell:
        "python -m microtome.cohort"
        " --slides-table {input.slides_table}"
        " --slides {output.slides}"
        " --excluded {output.excluded}"
        " --attrition {output.attrition}"
        " --named {params.named}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule tissue:
    "Where the tissue is on the slides of a shard: polygons that QuPath opens, an overlay to judge, and a row a slide."
    input:
        slides=ancient(COHORT),
        masks=lambda wildcards: JOBS.masks(wildcards.shard),
    output:
        table="results/tissue/{shard}.parquet",
    log:
        "logs/tissue/{shard}.log",
    benchmark:
        "benchmarks/tissue/{shard}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=TISSUE,
        slides=lambda wildcards: JOBS.slides_digest(wildcards.shard),
        folder=lambda wildcards, output: os.path.splitext(output.table)[0],
    shell:
        "python -m microtome.tissue"
        " --slides {input.slides}"
        " --shard {wildcards.shard}"
        " --folder {params.folder}"
        " --table {output.table}"
        f" --max-failed-fraction {CONFIG.max_failed_fraction}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule tiles:
    "The tissue tiles of a shard's slides, a tar of JPEG files a slide, and where each tile lies in it."
    input:
        slides=ancient(COHORT),
        tissue="results/tissue/{shard}.parquet",
    output:
        table="results/tiles/{shard}.parquet",
        index="results/tiles/{shard}.arrow",
    log:
        "logs/tiles/{shard}.log",
    benchmark:
        "benchmarks/tiles/{shard}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=TILES,
        slides=lambda wildcards: JOBS.slides_digest(wildcards.shard),
        masks=lambda wildcards, input: os.path.splitext(input.tissue)[0],
        folder=lambda wildcards, output: os.path.splitext(output.table)[0],
    shell:
        "python -m microtome.tiles"
        " --slides {input.slides}"
        " --shard {wildcards.shard}"
        " --tissue {input.tissue}"
        " --masks {params.masks}"
        " --folder {params.folder}"
        " --index {output.index}"
        " --table {output.table}"
        f" --max-failed-fraction {CONFIG.max_failed_fraction}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule catalog:
    "Every slide of the slide table accounted for: ok, empty, failed or excluded."
    input:
        slides_table=CONFIG.slides,
        cohort="results/cohort/slides.parquet",
        attrition="results/cohort/attrition.csv",
        excluded="results/cohort/excluded.csv",
        tissue=expand("results/tissue/{shard}.parquet", shard=JOBS.shards),
        tiles=expand("results/tiles/{shard}.parquet", shard=JOBS.shards),
        code=code("catalog", "ever_named", "outdated"),
    output:
        catalog="results/catalog/slides.parquet",
        failures="results/catalog/failures.csv",
        summary="results/catalog/summary.md",
        outdated="results/catalog/outdated.csv",
    log:
        "logs/catalog/catalog.log",
    benchmark:
        "benchmarks/catalog/catalog.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        results=lambda wildcards, output: os.path.dirname(os.path.dirname(output.catalog)),
        named=NAMED,
    shell:
        "python -m microtome.catalog"
        " --slides-table {input.slides_table}"
        " --cohort {input.cohort}"
        " --attrition {input.attrition}"
        " --excluded {input.excluded}"
        " --tissue {input.tissue}"
        " --tiles {input.tiles}"
        " --catalog {output.catalog}"
        " --failures {output.failures}"
        " --summary {output.summary}"
        " --outdated {output.outdated}"
        " --results {params.results}"
        " --named {params.named}"
        f" {OVERLAYS}"
        " > {log} 2>&1"
