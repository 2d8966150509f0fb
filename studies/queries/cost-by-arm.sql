-- What did each arm cost: by itself, and as its share of what was run?
SELECT
    arm,
    count(*) AS trials,
    sum(flops_alone) AS flops_alone,
    sum(flops_spent) AS flops_spent,
    sum(flops_alone) / sum(flops_spent) AS saving,
    sum(alone_s) AS alone_s,
    sum(spent_s) AS spent_s
FROM trials
WHERE status IS NOT NULL
GROUP BY arm
ORDER BY arm
