"""From candidates to hardware scores: devices, budgets, lowering, constraint violations."""
