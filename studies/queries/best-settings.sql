-- Which settings of each arm are best, by the mean final loss over seeds?
-- $top = 10: settings shown of each arm
SELECT
    arm,
    setting,
    count(*) AS seeds,
    avg(final_val_loss) AS loss,
    stddev_samp(final_val_loss) AS sd,
    avg(final_val_accuracy) AS accuracy,
    any_value(flops_alone) AS flops_alone
FROM trials
WHERE status = 'ok' AND role <> 'tune'
GROUP BY arm, setting
QUALIFY row_number() OVER (PARTITION BY arm ORDER BY avg(final_val_loss), setting) <= $top
ORDER BY arm, loss, setting
