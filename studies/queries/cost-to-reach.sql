-- What does it cost, in updates and FLOPs, until the validation loss is first at or below a value?
-- $loss = 2.0: nats per token
WITH reached AS (
    SELECT trial_id, min(step) AS step, min(flops_alone) AS flops
    FROM metrics
    WHERE val_loss <= $loss
    GROUP BY trial_id
)
SELECT
    arm,
    setting,
    count(*) AS trials,
    count(reached.step) AS reached,
    avg(reached.step) AS steps,
    avg(reached.flops) AS flops
FROM trials LEFT JOIN reached USING (trial_id)
WHERE status IN ('ok', 'diverged') AND role <> 'tune'
GROUP BY arm, setting
ORDER BY reached DESC, flops, arm, setting
