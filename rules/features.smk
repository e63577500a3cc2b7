# What each encoder sees in the tiles of the tasks' slides.
# in:  results/catalog and results/tiles (or a folder of others' coordinates), results/pretrain
# out: results/features/{encoder}/{shard}

COORDS = f"{CONFIG.features.coords}/slides.parquet" if CONFIG.features.coords else None


rule features:
    "The features of one encoder for the task slides of one feature shard, a file a slide."
    input:
        catalog=lambda wildcards: COORDS or (CATALOG if OUTDATED.features(wildcards.encoder, wildcards.shard) else ancient(CATALOG)),
        weights=lambda wildcards: JOBS.weights(wildcards.encoder),
    output:
        table="results/features/{encoder}/{shard}.parquet",
    log:
        "logs/features/{encoder}/{shard}.log",
    benchmark:
        "benchmarks/features/{encoder}/{shard}.tsv"
    conda:
        "../envs/microtome.yaml"
    resources:
        device=DEVICE,
    params:
        settings=lambda wildcards: JOBS.encoder_settings(wildcards.encoder).json_text(),
        slides=lambda wildcards: JOBS.features_digest(wildcards.shard),
        weights=lambda wildcards, input: checkpoint_flag(wildcards.encoder, input.weights),
        tiles=CONFIG.features.coords or "results/tiles",
        folder=lambda wildcards, output: os.path.splitext(output.table)[0],
    shell:
        "python -m microtome.features"
        " --catalog {input.catalog}"
        " --tiles {params.tiles}"
        f" --slides-of {TASK_TABLES}"
        " --shard {wildcards.shard}"
        f" --shards {CONFIG.features.shards}"
        " {params.weights}"
        " --folder {params.folder}"
        " --table {output.table}"
        f" --batch {CONFIG.features.batch}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
