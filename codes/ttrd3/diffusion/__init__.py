"""The dual diffusion of RDDM: schedules, process, objectives, sampler. Mathematics only."""
