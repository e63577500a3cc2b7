# How good the encoders are: Monte-Carlo cross-validated gated attention on every task.
# in:  the task tables, results/features
# out: results/splits, results/gma


rule splits:
    "The train and validation slides of each Monte-Carlo split of a task."
    input:
        task=lambda wildcards: CONFIG.tasks[wildcards.task].table,
        slides=ancient(COHORT),
        code=code("splits", "tasks"),
    output:
        splits="results/splits/{task}.csv",
    log:
        "logs/splits/{task}.log",
    benchmark:
        "benchmarks/splits/{task}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=SPLITS,
        patients=lambda wildcards: JOBS.task_digest(wildcards.task, PATIENT_COLUMNS),
    shell:
        "python -m microtome.splits"
        " --task {input.task}"
        " --slides {input.slides}"
        " --splits {output.splits}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule gma:
    "All splits and replicas of one task and encoder. Feature shards are shared by tasks: a job depends on its own slides, by digest."
    input:
        splits="results/splits/{task}.csv",
        weights=lambda wildcards: JOBS.weights(wildcards.encoder),
        catalog=lambda wildcards: COORDS or (CATALOG if OUTDATED.gma(wildcards.task, wildcards.encoder) else ancient(CATALOG)),
        features=lambda wildcards: [
            ancient(f"results/features/{wildcards.encoder}/{shard}.parquet") for shard in JOBS.task_shards(wildcards.task)
        ],
    output:
        runs="results/gma/{task}/{encoder}/runs.csv",
        predictions="results/gma/{task}/{encoder}/predictions.parquet",
        attention="results/gma/{task}/{encoder}/attention.parquet",
        excluded="results/gma/{task}/{encoder}/excluded.csv",
    log:
        "logs/gma/{task}/{encoder}.log",
    benchmark:
        "benchmarks/gma/{task}/{encoder}.tsv"
    conda:
        "../envs/microtome.yaml"
    resources:
        device=DEVICE,
    params:
        settings=GMA,
        encoder=lambda wildcards: JOBS.encoder_settings(wildcards.encoder).json_text(),
        slides=lambda wildcards: JOBS.task_digest(wildcards.task, SLIDE_COLUMNS),
        tiles=JOBS.tile_settings_digest,
    shell:
        "python -m microtome.gma"
        " --splits {input.splits}"
        " --features {input.features}"
        " --catalog {input.catalog}"
        " --runs {output.runs}"
        " --predictions {output.predictions}"
        " --attention {output.attention}"
        " --excluded {output.excluded}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
