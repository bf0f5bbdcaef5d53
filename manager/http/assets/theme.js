// Light or dark, before anything is drawn: what a person chose, else what the system says.
(() => {
  'use strict';
  const KEY = 'berth-theme';
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // Storage may be forbidden.
    }
  };
  const apply = () => {
    root.dataset.theme = kept() ?? (system.matches ? 'dark' : 'light');
  };
  apply();
  system.addEventListener('change', apply);
  addEventListener('storage', apply);
  addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    if (!button) return;
    const show = () => button.setAttribute('aria-pressed', String(root.dataset.theme === 'dark'));
    button.hidden = false;
    show();
    button.addEventListener('click', () => {
      const other = root.dataset.theme === 'dark' ? 'light' : 'dark';
      try {
        localStorage.setItem(KEY, other);
      } catch {
        // Then it holds for this page only.
      }
      root.dataset.theme = other;
      show();
    });
  });
})();
